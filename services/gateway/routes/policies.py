"""Policies of the gate: quiet hours, budgets, conflict."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_common.problems import not_found
from rondo_protos.rhythm.v1 import rhythm_pb2 as pb
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.routes.keys import checked_id

router = APIRouter(prefix="/v1/policies", tags=["policies"])
Read = Annotated[Grant, Depends(needs("policies:read"))]
Write = Annotated[Grant, Depends(needs("policies:write"))]
KINDS = ("quiet_hours", "budget", "conflict")


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise not_found("kind of policy", kind)
    return kind


def _shown(policy: Any) -> dict[str, Any]:
    body = msgspec.json.decode(policy.body_json)
    return {**body, "kind": policy.kind, "id": policy.id, "version": policy.version, "created_at": policy.created_at}


@router.get("", summary="All policies")
async def listing(request: Request, grant: Read) -> Response:
    found = await request.app.state.clients.rhythm.ListPolicies(pb.ListPoliciesRequest(workspace=grant.workspace))
    return raw_json(web.page([_shown(p) for p in found.policies]))


@router.get("/{kind}", summary="Policies of a kind: quiet_hours, budget or conflict")
async def of_kind(kind: str, request: Request, grant: Read) -> Response:
    wanted = pb.ListPoliciesRequest(workspace=grant.workspace, kind=_kind(kind))
    return raw_json(
        web.page([_shown(p) for p in (await request.app.state.clients.rhythm.ListPolicies(wanted)).policies])
    )


@router.get("/{kind}/{id}", summary="A policy")
async def get(kind: str, id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetPolicyRequest(workspace=grant.workspace, kind=_kind(kind), id=id)
    return raw_json(_shown((await request.app.state.clients.rhythm.GetPolicy(wanted)).policy))


@router.put("/{kind}/{id}", summary="Make a policy or a new version of it")
async def put(kind: str, id: str, request: Request, grant: Write) -> Response:
    wanted = pb.PutPolicyRequest(
        workspace=grant.workspace,
        kind=_kind(kind),
        id=checked_id(id),
        body_json=await web.read_json(request),
        actor=grant.id,
    )
    return raw_json(_shown((await request.app.state.clients.rhythm.PutPolicy(wanted, timeout=20)).policy))


@router.delete("/{kind}/{id}", status_code=204, summary="Withdraw a policy")
async def delete(kind: str, id: str, request: Request, grant: Write) -> Response:
    wanted = pb.DeletePolicyRequest(workspace=grant.workspace, kind=_kind(kind), id=id, actor=grant.id)
    await request.app.state.clients.rhythm.DeletePolicy(wanted, timeout=20)
    return Response(status_code=204)
