"""Members: profile, timeline, decisions, budget, consent, preferences."""

import asyncio
from typing import Annotated, Any

import httpx
import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import ids, telemetry, web
from rondo_common.clock import from_iso, iso
from rondo_common.keys import Grant, make_internal_key
from rondo_common.problems import Problem, invalid, unavailable
from rondo_common.records import Command, Contact, Profile
from rondo_protos.insights.v1 import insights_pb2
from rondo_protos.rhythm.v1 import rhythm_pb2
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.members import find, instant_of, limit_of, origins

router = APIRouter(prefix="/v1/members", tags=["members"])
Read = Annotated[Grant, Depends(needs("members:read"))]
Write = Annotated[Grant, Depends(needs("members:write"))]


class ConsentChange(msgspec.Struct, forbid_unknown_fields=True):
    """Properties of a Consent Changed event (WIRE 2)."""

    channel: str
    topic: str
    state: str
    text_version: str | None = None
    source: str | None = None
    ip: str | None = None
    timestamp: str | None = None


class QuietHours(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: str
    to: str


class Preferences(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a member prefers. Absent fields stay as they are, null ones are taken back."""

    tempo: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET
    paused_until: str | msgspec.UnsetType | None = msgspec.UNSET
    quiet_hours: QuietHours | msgspec.UnsetType | None = msgspec.UNSET
    channels: list[str] | msgspec.UnsetType | None = msgspec.UNSET


def _shown(member: Any) -> dict[str, Any]:
    profile = msgspec.json.decode(member.profile_json, type=Profile)
    body: dict[str, Any] = {
        "member_id": member.member_id,
        "user_id": member.user_id or None,
        "anonymous": member.anonymous,
        "merged_from": list(member.merged_from),
        "user_ids": profile.user_ids,
        "anonymous_ids": profile.anonymous_ids,
        "traits": profile.traits,
        "groups": profile.groups,
        "consents": profile.consents,
        "suppressions": profile.suppressions,
        "first_seen": profile.first_seen,
        "last_seen": profile.last_seen,
        "events": profile.events,
        "event_counts": profile.event_counts,
        "created_at": profile.created_at,
        "updated_at": profile.updated_at,
    }
    return body


@router.get("/{id}", summary="A member's profile")
async def get(id: str, request: Request, grant: Read) -> Response:
    return raw_json(_shown(await find(request, grant.workspace, id)))


@router.get("/{id}/timeline", summary="Everything that happened to a member, newest first")
async def timeline(id: str, request: Request, grant: Read) -> Response:
    member = await find(request, grant.workspace, id)
    wanted = insights_pb2.GetTimelineRequest(
        workspace=grant.workspace,
        member_ids=origins(member),
        cursor=request.query_params.get("cursor", ""),
        limit=limit_of(request),
    )
    found = await request.app.state.clients.insights.GetTimeline(wanted)
    return raw_json(web.page(msgspec.Raw(found.data_json), found.next_cursor or None))  # type: ignore[arg-type]


@router.get("/{id}/decisions", summary="What the gate decided about a member, newest first")
async def decisions(id: str, request: Request, grant: Read) -> Response:
    member = await find(request, grant.workspace, id)
    wanted = insights_pb2.ListDecisionsRequest(
        workspace=grant.workspace,
        member_ids=origins(member),
        campaign=request.query_params.get("campaign", ""),
        cursor=request.query_params.get("cursor", ""),
        limit=limit_of(request),
    )
    found = await request.app.state.clients.insights.ListDecisions(wanted)
    return raw_json(web.page(msgspec.Raw(found.data_json), found.next_cursor or None))  # type: ignore[arg-type]


@router.get("/{id}/budget", summary="What counts against each budget of a member, and what is left")
async def budget(id: str, request: Request, grant: Read) -> Response:
    member = await find(request, grant.workspace, id)
    wanted = rhythm_pb2.GetBudgetRequest(workspace=grant.workspace, member_id=member.member_id)
    return raw_json(msgspec.Raw((await request.app.state.clients.rhythm.GetBudget(wanted)).body_json))


@router.get("/{id}/consent", summary="A member's consents, now or as of an instant")
async def consent(id: str, request: Request, grant: Read) -> Response:
    member = await find(request, grant.workspace, id)
    at = instant_of(request)
    now = request.app.state.clock.now()
    if at is None or at >= now:
        entries = msgspec.json.decode(member.contact_json, type=Contact).consents
        return raw_json({"as_of": iso(now if at is None else at), "consents": [_entry(e) for e in entries]})
    statement = (
        "SELECT channel, topic, argMax(json, (at, state = 'denied')) FROM rondo.consents FINAL WHERE workspace = {w:String} "
        "AND member_id IN {m:Array(String)} AND at <= fromUnixTimestamp64Milli({t:Int64}, 'UTC') "
        "GROUP BY channel, topic ORDER BY channel, topic"
    )
    rows = await asyncio.to_thread(
        request.app.state.warehouse.rows, statement, {"w": grant.workspace, "m": origins(member), "t": at}
    )
    found = [msgspec.json.decode(row[2]) for row in rows]
    return raw_json({"as_of": iso(at), "consents": [
        {"channel": c["channel"], "topic": c["topic"], "state": c["state"], "since": c["timestamp"], "event_id": c["event_id"]}
        for c in found
    ]})  # fmt: skip


def _entry(e: Any) -> dict[str, Any]:
    return {"channel": e.channel, "topic": e.topic, "state": e.state, "since": e.since, "event_id": e.event_id}


@router.put(
    "/{id}/consent", status_code=202, summary="Record a consent statement; same properties as the Consent Changed event"
)
async def put_consent(id: str, request: Request, grant: Write) -> Response:
    body = await web.read(request, ConsentChange)
    errors = []
    if body.channel not in ("email", "sms", "messaging", "social"):
        errors.append(invalid("/channel", "unknown_channel", "email, sms, messaging or social"))
    if body.state not in ("granted", "denied"):
        errors.append(invalid("/state", "unknown_state", "granted or denied"))
    if not body.topic or len(body.topic) > 64:
        errors.append(invalid("/topic", "invalid", "1 to 64 characters; * is the whole channel"))
    if body.timestamp is not None:
        try:
            from_iso(body.timestamp)
        except ValueError as e:
            errors.append(invalid("/timestamp", "invalid_time", str(e)))
    if errors:
        raise Problem(422, "invalid-request", "The consent is not valid", errors=errors)
    member = await find(request, grant.workspace, id)
    profile = msgspec.json.decode(member.profile_json, type=Profile)
    who = {"userId": member.user_id} if member.user_id else {"anonymousId": next(iter(profile.anonymous_ids), "")}
    now = iso(request.app.state.clock.now())
    properties = {k: v for k, v in msgspec.to_builtins(body).items() if v is not None and k != "timestamp"}
    message_id = request.headers.get("idempotency-key") or ids.derived(telemetry.trace_id(), "consent")
    event = {
        "type": "track", "event": "Consent Changed", "messageId": message_id, **who,
        "timestamp": body.timestamp or now, "properties": {"source": "api", **properties},
    }  # fmt: skip
    await _to_the_door(request, grant, event)
    return JSONResponse({"event_id": message_id, "recorded_at": now}, 202)


async def _to_the_door(request: Request, grant: Grant, event: dict[str, Any]) -> None:
    """Consent is an event like any other: it goes in through ingestion."""
    state = request.app.state
    key = make_internal_key(state.settings.secret, grant.workspace)
    try:
        answer = await state.clients.http.post(
            state.settings.url_ingestion + "/v1/track", json=event, auth=(key, ""), headers={"X-Strict-Mode": "1"}
        )
    except httpx.HTTPError as e:
        raise unavailable("ingestion", "It does not answer") from e
    if answer.status_code >= 300:
        raise unavailable("ingestion", f"It answered {answer.status_code}")


@router.put("/{id}/preferences", status_code=202, summary="What a member prefers: tempo, pause, quiet hours, channels")
async def put_preferences(id: str, request: Request, grant: Write) -> Response:
    body = await web.read(request, Preferences)
    if isinstance(body.paused_until, str):
        try:
            from_iso(body.paused_until)
        except ValueError as e:
            raise Problem(
                422,
                "invalid-request",
                "The time is not valid",
                errors=[invalid("/paused_until", "invalid_time", str(e))],
            ) from e
    member = await find(request, grant.workspace, id)
    now = request.app.state.clock.now()
    cause = request.headers.get("idempotency-key") or telemetry.trace_id()
    command = Command(
        kind="member.preferences",
        workspace=grant.workspace,
        id=ids.derived(f"{grant.workspace}:{cause}", "preferences"),
        at=iso(now),
        actor=grant.id,
        member_id=member.member_id,
        data=msgspec.Raw(msgspec.json.encode(body)),
    )
    await request.app.state.commands.to_members([command])
    return JSONResponse({"member_id": member.member_id, "accepted_at": iso(now)}, 202)
