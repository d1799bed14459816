"""gRPC ProfilesService: questions about members, answered from the stage's state."""

from collections.abc import Sequence
from typing import Any

import msgspec

from rondo_common.problems import Problem, invalid, not_found, unavailable
from rondo_common.streams.view import Unavailable
from rondo_protos.profiles.v1 import profiles_pb2 as pb
from rondo_protos.profiles.v1 import profiles_pb2_grpc
from services.profiles import views
from services.profiles.fragments import fold, user_id_of
from services.profiles.model import Member
from services.profiles.store import KINDS, Found, Members

MOST_MEMBERS = 1_000
MOST_IDS = 50_000

_encode = msgspec.json.Encoder().encode


def kind_of(id_type: str) -> str:
    """Kind of identifier of an id_type; Problem 422 for an unknown one."""
    kind = KINDS.get(id_type)
    if kind is None:
        named = ", ".join(k for k in KINDS if k)
        raise Problem(
            422,
            "invalid-id-type",
            "There is no such kind of identifier",
            f"id_type {id_type!r}; one of {named}",
            [invalid("/id_type", "unknown_id_type", f"one of {named}")],
        )
    return kind


def _at_most(ids: Sequence[str], most: int) -> None:
    if len(ids) > most:
        raise Problem(
            422, "too-many", "Too many ids in one call", f"at most {most}", [invalid("/ids", "too_many", f"<= {most}")]
        )


def member_message(workspace: str, member_id: str, member: Member) -> pb.Member:
    """The member as it travels."""
    whole = fold(member)
    user_id = user_id_of(member)
    return pb.Member(
        member_id=member_id,
        user_id=user_id or "",
        anonymous=user_id is None,
        merged_from=sorted(member.absorbed),
        profile_json=_encode(views.profile(workspace, member_id, member, whole)),
        contact_json=_encode(views.contact(workspace, member_id, member, whole)),
    )


class ProfilesServicer(profiles_pb2_grpc.ProfilesServiceServicer):
    """See profiles.proto."""

    def __init__(self, members: Members):
        self._members = members

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        found = await self._find(request.workspace, request.id_type, [request.id])
        if request.id not in found:
            raise not_found("member", request.id)
        return pb.GetResponse(member=member_message(request.workspace, *found[request.id]))

    async def BatchGet(self, request: pb.BatchGetRequest, context: Any) -> pb.BatchGetResponse:
        _at_most(request.ids, MOST_MEMBERS)
        found = await self._find(request.workspace, request.id_type, request.ids)
        return pb.BatchGetResponse(
            found=[
                pb.FoundMember(id=id, member=member_message(request.workspace, *found[id]))
                for id in request.ids
                if id in found
            ],
            unknown=[id for id in request.ids if id not in found],
        )

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        _at_most(request.ids, MOST_IDS)
        found = await self._find(request.workspace, request.id_type, request.ids)
        return pb.LookupResponse(
            found=[
                pb.FoundId(id=id, member_id=found[id][0], user_id=user_id_of(found[id][1]) or "")
                for id in request.ids
                if id in found
            ],
            unknown=[id for id in request.ids if id not in found],
        )

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:
        limit = min(request.limit or 100, MOST_MEMBERS)
        try:
            found, cursor = await self._members.page(request.workspace, request.cursor, max(1, limit))
        except ValueError as e:
            raise Problem(
                422, "invalid-cursor", "The cursor is not valid", str(e), [invalid("/cursor", "invalid", str(e))]
            ) from e
        except Unavailable as e:
            raise unavailable("profiles", str(e)) from e
        return pb.ListMembersResponse(
            members=[member_message(request.workspace, id, m) for id, m in found], next_cursor=cursor
        )

    async def _find(self, workspace: str, id_type: str, ids: Sequence[str]) -> dict[str, Found]:
        try:
            return await self._members.find(workspace, kind_of(id_type), ids)
        except Unavailable as e:
            raise unavailable("profiles", str(e)) from e
