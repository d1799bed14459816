"""Runs and explanations."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common import web
from rondo_common.clock import iso
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid, not_implemented
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from rondo_protos.insights.v1 import insights_pb2
from rondo_protos.segmentation.v1 import segmentation_pb2
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.members import find, instant_of, limit_of, origins

router = APIRouter(prefix="/v1")
Read = Annotated[Grant, Depends(needs("campaigns:read"))]


@router.get("/runs", tags=["runs"], summary="Runs, newest first; ?campaign= of one campaign")
async def listing(request: Request, grant: Read) -> Response:
    wanted = pb.ListRunsRequest(
        workspace=grant.workspace,
        campaign=request.query_params.get("campaign", ""),
        limit=min(limit_of(request), 100),
        cursor=request.query_params.get("cursor", ""),
    )
    found = await request.app.state.clients.campaigns.ListRuns(wanted)
    return raw_json(web.page([msgspec.Raw(r) for r in found.runs_json], found.next_cursor or None))


@router.get("/runs/{id}", tags=["runs"], summary="A run: counts by outcome and reason")
async def get(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetRunRequest(workspace=grant.workspace, run_id=id)
    return raw_json(msgspec.Raw((await request.app.state.clients.campaigns.GetRun(wanted)).run_json))


@router.get("/explain", tags=["explain"], summary="Why a member got, or did not get, a campaign's message")
async def explain(request: Request, grant: Read) -> Response:
    q = request.query_params
    missing = [
        invalid(f"/{name}", "required", "give it in the query") for name in ("member", "campaign") if not q.get(name)
    ]
    if missing:
        raise Problem(422, "invalid-request", "The question is not complete", errors=missing)
    if q.get("source", "recorded") == "rebuild":
        raise not_implemented("source=rebuild")
    now = request.app.state.clock.now()
    at = instant_of(request)
    at = now if at is None else at
    clients = request.app.state.clients
    member = await find(request, grant.workspace, q["member"])
    campaign = (
        await clients.campaigns.GetCampaign(pb.GetCampaignRequest(workspace=grant.workspace, id=q["campaign"]))
    ).campaign
    wanted = insights_pb2.GetDecisionRequest(
        workspace=grant.workspace,
        member_ids=origins(member),
        campaign=q["campaign"],
        touch_id=q.get("touch_id", ""),
        at_ms=at,
    )
    found = (await clients.insights.GetDecision(wanted)).decision_json
    if found:
        return raw_json({"status": "recorded", "as_of": iso(at), "decision": msgspec.Raw(found)})
    gate = await _audience(request, grant, member.member_id, msgspec.json.decode(campaign.body_json), at)
    return raw_json({"status": "not_targeted", "as_of": iso(at), "decision": {
        "campaign": q["campaign"], "member_id": member.member_id, "version": campaign.version, "decided_at": iso(at),
        "verdict": "skip", "reason": "not_in_audience", "gates": [gate],
    }})  # fmt: skip


async def _audience(
    request: Request, grant: Grant, member_id: str, campaign: dict[str, Any], at: int
) -> dict[str, Any]:
    """The one gate of a member who was never targeted: the audience, with the segment's leaves."""
    audience = campaign.get("audience") or {}
    trigger = campaign.get("trigger") or {}
    segment = (
        audience.get("segment")
        or trigger.get("segment")
        or (f"campaign-{campaign['id']}" if "rule" in audience else None)
    )
    inputs: dict[str, Any] = {"trigger": trigger} if trigger and not segment else {}
    if segment:
        wanted = segmentation_pb2.ExplainRequest(
            workspace=grant.workspace, member_id=member_id, segment=segment, at_ms=at
        )
        found = await request.app.state.clients.segments.Explain(wanted)
        inputs = msgspec.json.decode(found.explanation_json)
    return {"gate": "audience", "verdict": "skip", "reason": "not_in_audience", "inputs": inputs}
