"""gRPC RhythmService: policies, and questions about one member."""

from typing import Any

import msgspec

from rondo_common.clock import Clock
from rondo_common.definitions import DefinitionStore
from rondo_common.problems import Problem, not_found, not_implemented
from rondo_common.records import Definition
from rondo_protos.rhythm.v1 import rhythm_pb2 as pb
from rondo_protos.rhythm.v1 import rhythm_pb2_grpc
from services.rhythm import views
from services.rhythm.policies import KINDS, validate
from services.rhythm.store import Members

_encode = msgspec.json.Encoder().encode


def policy_message(d: Definition) -> pb.Policy:
    return pb.Policy(kind=d.kind, id=d.id, version=d.version, created_at=d.created_at, body_json=bytes(d.body))


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise Problem(404, "not-found", "There is no such kind of policy", f"One of {', '.join(KINDS)}")
    return kind


class RhythmServicer(rhythm_pb2_grpc.RhythmServiceServicer):
    """See rhythm.proto."""

    def __init__(self, definitions: DefinitionStore, members: Members, clock: Clock):
        self._definitions = definitions
        self._members = members
        self._clock = clock

    async def PutPolicy(self, request: pb.PutPolicyRequest, context: Any) -> pb.PutPolicyResponse:
        body = validate(request.kind, request.id, request.body_json)
        seen = request.if_version if request.HasField("if_version") else None
        d = await self._definitions.put(request.workspace, request.kind, request.id, body, request.actor, seen)
        return pb.PutPolicyResponse(policy=policy_message(d))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Any) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy=policy_message(self._find(request)))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Any) -> pb.ListPoliciesResponse:
        kinds = [_known_kind(request.kind)] if request.kind else list(KINDS)
        found = [d for kind in kinds for d in self._definitions.list(request.workspace, kind)]
        return pb.ListPoliciesResponse(policies=[policy_message(d) for d in found])

    async def DeletePolicy(self, request: pb.DeletePolicyRequest, context: Any) -> pb.DeletePolicyResponse:
        self._find(request)
        await self._definitions.delete(request.workspace, request.kind, request.id, request.actor)
        return pb.DeletePolicyResponse()

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        member_id, member = await self._members.get(request.workspace, request.member_id)
        shown = views.budget(member_id, member, self._members.policies(request.workspace), self._clock.now())
        return pb.GetBudgetResponse(body_json=_encode(shown))

    async def GetAgenda(self, request: pb.GetAgendaRequest, context: Any) -> pb.GetAgendaResponse:
        member_id, member = await self._members.get(request.workspace, request.member_id)
        return pb.GetAgendaResponse(body_json=_encode(views.agenda(member_id, member, self._clock.now())))

    async def Simulate(self, request: pb.SimulateRequest, context: Any) -> pb.SimulateResponse:
        raise not_implemented("Simulation")

    def _find(self, request: pb.GetPolicyRequest | pb.DeletePolicyRequest) -> Definition:
        d = self._definitions.get(request.workspace, _known_kind(request.kind), request.id)
        if d is None:
            raise not_found("policy", request.id)
        return d
