"""Segments: definitions, previews, members, explanations."""

import secrets
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_common.problems import not_found
from rondo_protos.segmentation.v1 import segmentation_pb2 as pb
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.conditions import if_version, versioned
from services.gateway.members import find, instant_of, limit_of
from services.gateway.routes.keys import checked_id

router = APIRouter(prefix="/v1", tags=["segments"])
Read = Annotated[Grant, Depends(needs("segments:read"))]
Write = Annotated[Grant, Depends(needs("segments:write"))]


async def _put(id: str, request: Request, grant: Grant) -> Response:
    wanted = pb.PutRequest(
        workspace=grant.workspace,
        id=id,
        body_json=await web.read_json(request),
        actor=grant.id,
        if_version=if_version(request),
    )
    answer = await request.app.state.clients.segments.Put(wanted, timeout=20)
    return versioned(answer.segment, 201 if answer.created else 200)


@router.put("/segments/{id}", summary="Make a segment or a new version of it")
async def put(id: str, request: Request, grant: Write) -> Response:
    return await _put(checked_id(id), request, grant)


@router.post("/segments", status_code=201, summary="Make a segment with an id of our choosing")
async def post(request: Request, grant: Write) -> Response:
    return await _put(f"s{secrets.token_hex(6)}", request, grant)


@router.post("/segments/preview", summary="How many members a rule holds, now or at an instant")
async def preview(request: Request, grant: Read) -> Response:
    wanted = pb.PreviewRequest(workspace=grant.workspace, body_json=await web.read_json(request))
    return raw_json(msgspec.Raw((await request.app.state.clients.segments.Preview(wanted, timeout=60)).answer_json))


@router.get("/segments", summary="All segments")
async def listing(request: Request, grant: Read) -> Response:
    wanted = pb.ListRequest(
        workspace=grant.workspace, limit=min(limit_of(request), 200), cursor=request.query_params.get("cursor", "")
    )
    found = await request.app.state.clients.segments.List(wanted)
    return raw_json(web.page([msgspec.Raw(s.body_json) for s in found.segments], found.next_cursor or None))


@router.get("/segments/{id}", summary="A segment with its count and status")
async def get(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetRequest(workspace=grant.workspace, id=id)
    return versioned((await request.app.state.clients.segments.Get(wanted, timeout=20)).segment)


@router.delete("/segments/{id}", status_code=204, summary="Withdraw a segment")
async def delete(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.DeleteRequest(workspace=grant.workspace, id=id, actor=grant.id)
    await request.app.state.clients.segments.Delete(wanted, timeout=20)
    return Response(status_code=204)


@router.get("/segments/{id}/members", summary="The members of a segment now")
async def members(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.ListMembersRequest(
        workspace=grant.workspace, id=id, limit=limit_of(request), cursor=request.query_params.get("cursor", "")
    )
    found = await request.app.state.clients.segments.ListMembers(wanted, timeout=20)
    data = [
        {"member_id": m.member_id, "user_id": m.user_id or None, "entered_at": m.entered_at, "version": m.version}
        for m in found.members
    ]
    return raw_json(web.page(data, found.next_cursor or None))


@router.get("/members/{id}/segments", summary="The segments a member is in; ?explain=<segment> says why, or why not")
async def of_member(id: str, request: Request, grant: Read) -> Response:
    member = await find(request, grant.workspace, id)
    clients, at = request.app.state.clients, instant_of(request) or 0
    segment = request.query_params.get("explain")
    if segment is not None:
        if not segment:
            raise not_found("segment", segment)
        wanted: Any = pb.ExplainRequest(
            workspace=grant.workspace, member_id=member.member_id, segment=segment, at_ms=at
        )
        return raw_json(msgspec.Raw((await clients.segments.Explain(wanted)).explanation_json))
    wanted = pb.ListMemberSegmentsRequest(workspace=grant.workspace, member_id=member.member_id, at_ms=at)
    found = await clients.segments.ListMemberSegments(wanted)
    data = [{"segment": s.segment, "entered_at": s.entered_at, "version": s.version} for s in found.segments]
    return raw_json(web.page(data))
