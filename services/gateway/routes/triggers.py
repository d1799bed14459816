"""Sending because somebody asks: API triggers, Braze's form of them, single transactional messages."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from rondo_protos.profiles.v1 import profiles_pb2
from services.gateway.access import needs
from services.gateway.bodies import BrazeTrigger, Send, Trigger
from services.gateway.members import find
from services.gateway.routes.templates import CHANNELS

router = APIRouter(tags=["triggers"])
Write = Annotated[Grant, Depends(needs("campaigns:write"))]
MaySend = Annotated[Grant, Depends(needs("send:write"))]
MAX_NAMED = 50_000

Named = list[tuple[str, str, dict[str, Any], str]]
"""(id_type, id, data, pointer) of each person named."""


def _named(body: Trigger) -> Named:
    if body.ids is not None:
        return [("id", id, {}, f"/ids/{n}") for n, id in enumerate(body.ids)]
    if body.emails is not None:
        return [("email", e, {}, f"/emails/{n}") for n, e in enumerate(body.emails)]
    out: Named = []
    for n, entry in enumerate(body.per_user_data or []):
        if bool(entry.id) == bool(entry.email):
            where = [invalid(f"/per_user_data/{n}", "one_of", "name either id or email")]
            raise Problem(422, "invalid-request", "The trigger is not valid", errors=where)
        out.append(("id" if entry.id else "email", entry.id or entry.email or "", entry.data, f"/per_user_data/{n}"))
    return out


async def _resolve(
    request: Request, workspace: str, named: Named, ignore_missing: bool
) -> tuple[list[pb.Recipient], list[str]]:
    """(recipients, unknown ids). Problem 422 with a pointer for each unknown id unless they may be missing."""
    if len(named) > MAX_NAMED:
        where = [invalid(named[MAX_NAMED][3], "too_many", f"at most {MAX_NAMED}")]
        raise Problem(422, "invalid-request", "Too many people are named", errors=where)
    found: dict[tuple[str, str], str] = {}
    for kind in {n[0] for n in named}:
        ids = list({n[1] for n in named if n[0] == kind})
        wanted = profiles_pb2.LookupRequest(workspace=workspace, ids=ids, id_type=kind)
        answer = await request.app.state.clients.profiles.Lookup(wanted, timeout=20)
        found |= {(kind, f.id): f.member_id for f in answer.found}
    missing = [n for n in named if (n[0], n[1]) not in found]
    if missing and not ignore_missing:
        where = [
            invalid(n[3], "unknown_member", "nobody has this id; id_ignore_missing skips such") for n in missing[:100]
        ]
        raise Problem(422, "unknown-members", "Some ids are unknown", f"{len(missing)} of {len(named)}", where)
    recipients = [
        pb.Recipient(member_id=found[n[0], n[1]], data_json=msgspec.json.encode(n[2]) if n[2] else b"")
        for n in named
        if (n[0], n[1]) in found
    ]
    return recipients, [n[1] for n in missing]


async def _trigger(request: Request, grant: Grant, campaign: str, body: Trigger) -> tuple[str, int, list[str]]:
    """(run id, accepted, unknown)."""
    ways = {
        "ids": body.ids is not None,
        "emails": body.emails is not None,
        "per_user_data": body.per_user_data is not None,
        "recipients": body.recipients is not None,
        "broadcast": body.broadcast,
    }
    if sum(ways.values()) != 1:
        detail = "give exactly one of " + ", ".join(ways)
        raise Problem(422, "invalid-request", "The trigger is not valid", detail, [invalid("", "one_of", detail)])
    recipients, unknown = await _resolve(request, grant.workspace, _named(body), body.id_ignore_missing)
    wanted = pb.TriggerCampaignRequest(
        workspace=grant.workspace,
        campaign=campaign,
        recipients=recipients,
        rule_json=msgspec.json.encode(body.recipients) if body.recipients is not None else b"",
        broadcast=body.broadcast,
        data_json=msgspec.json.encode(body.data) if body.data else b"",
        idempotency_key=request.headers.get("idempotency-key", ""),
        actor=grant.id,
    )
    answer = await request.app.state.clients.campaigns.TriggerCampaign(wanted, timeout=60)
    return answer.run_id, answer.accepted, unknown


@router.post(
    "/v1/campaigns/{id}/triggers", status_code=202, summary="Trigger a campaign for people, a rule or its audience"
)
async def trigger(id: str, request: Request, grant: Write) -> Response:
    run_id, accepted, unknown = await _trigger(request, grant, id, await web.read(request, Trigger))
    return JSONResponse({"run_id": run_id, "accepted": accepted, "unknown": unknown}, 202)


@router.post("/v1/campaigns/trigger/send", status_code=201, summary="The same in Braze's form")
async def braze(request: Request, grant: Write) -> Response:
    body = await web.read(request, BrazeTrigger)
    if body.broadcast:
        plain = Trigger(data=body.trigger_properties, broadcast=True)
        run_id, _, _ = await _trigger(request, grant, body.campaign_id, plain)
        return JSONResponse({"dispatch_id": run_id, "message": "success"}, 201)
    named: Named = []
    for n, r in enumerate(body.recipients):
        if not r.external_user_id and not r.email:
            where = [invalid(f"/recipients/{n}", "one_of", "name external_user_id or email")]
            raise Problem(422, "invalid-request", "The recipients are not valid", errors=where)
        kind, id = ("id", r.external_user_id) if r.external_user_id else ("email", r.email)
        named.append((kind, id or "", r.trigger_properties, f"/recipients/{n}"))
    if not named:
        raise Problem(
            422, "invalid-request", "Nobody is named", errors=[invalid("/recipients", "required", "or broadcast: true")]
        )
    recipients, _ = await _resolve(request, grant.workspace, named, False)
    wanted = pb.TriggerCampaignRequest(
        workspace=grant.workspace,
        campaign=body.campaign_id,
        recipients=recipients,
        data_json=msgspec.json.encode(body.trigger_properties) if body.trigger_properties else b"",
        idempotency_key=request.headers.get("idempotency-key", ""),
        actor=grant.id,
    )
    answer = await request.app.state.clients.campaigns.TriggerCampaign(wanted, timeout=60)
    return JSONResponse({"dispatch_id": answer.run_id, "message": "success"}, 201)


@router.post("/v1/send/{channel}", status_code=202, summary="One transactional message")
async def send(channel: str, request: Request, grant: MaySend) -> Response:
    if channel not in CHANNELS:
        raise Problem(404, "not-found", "There is no such channel", "One of " + ", ".join(CHANNELS))
    body = await web.read(request, Send)
    who = body.to.named()
    errors = [] if who else [invalid("/to", "one_of", "name exactly one of id, email, phone, anonymous_id, member_id")]
    if (body.template is None) == (body.content is None):
        errors.append(invalid("/template", "one_of", "give template or content"))
    if errors or who is None:
        raise Problem(422, "invalid-request", "The message is not valid", errors=errors)
    member = await find(request, grant.workspace, who[1], who[0])
    wanted = pb.SendRequest(
        workspace=grant.workspace,
        channel=channel,
        member_id=member.member_id,
        template=body.template or "",
        content_json=msgspec.json.encode(body.content) if body.content is not None else b"",
        data_json=msgspec.json.encode(body.data) if body.data else b"",
        idempotency_key=request.headers.get("idempotency-key", ""),
        actor=grant.id,
    )
    answer = await request.app.state.clients.campaigns.Send(wanted, timeout=15)
    return JSONResponse({"touch_id": answer.touch_id}, 202)
