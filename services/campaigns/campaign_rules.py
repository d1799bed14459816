"""Which campaigns are accepted. Pure.

`parse_campaign` reads a body as it was sent and says what is wrong with JSON pointers. Parts of the
contract that are not served yet are answered 501, naming their pointer.
"""

import hashlib
import math
from typing import Any

import msgspec

from rondo_common.clock import from_iso
from rondo_common.durations import parse_duration
from rondo_common.problems import Problem, from_validation, invalid
from services.campaigns.bodies import After, CampaignBody, Trigger
from services.campaigns.event_match import mistakes

_TITLE = "The campaign is not valid"
PRIORITIES = range(0, 1001)


def parse_campaign(raw: bytes) -> tuple[CampaignBody, dict[str, Any]]:
    """A campaign and its body as sent. Problem 400, 422 or 501."""
    body = decode_object(raw)
    if missing := _not_served(body):
        raise missing
    try:
        campaign = msgspec.convert(body, CampaignBody)
    except msgspec.ValidationError as e:
        raise from_validation(e, title=_TITLE) from e
    if found := _mistakes(campaign):
        raise Problem(422, "invalid-campaign", _TITLE, found[0]["detail"], found)
    return campaign, body


def decode_object(raw: bytes) -> dict[str, Any]:
    """A JSON object. Problem 400 when it is no JSON, 422 when it is something else."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise Problem(400, "invalid-json", "The body is not JSON", str(e)) from e
    if not isinstance(body, dict):
        raise Problem(422, "invalid-request", "The body is not an object", errors=[invalid("", "wrong_type", "object")])
    return body


def audience_segment(campaign_id: str, campaign: CampaignBody) -> str | None:
    """Id of the segment a campaign addresses: the one it names, or the one made of its inline rule."""
    if campaign.audience is None:
        return None
    return campaign.audience.segment or inline_segment(campaign_id)


def inline_segment(campaign_id: str) -> str:
    """Id of the segment that holds a campaign's inline rule."""
    return f"campaign-{campaign_id}"


def recipients_segment(rule: dict[str, Any]) -> str:
    """Id of the segment for the rule of one trigger: the same rule has the same. It begins like that of
    an inline rule, so that lists of segments leave it out."""
    canonical = msgspec.json.encode(rule, order="sorted")
    return f"campaign-recipients-{hashlib.sha256(canonical).hexdigest()[:24]}"


def _not_served(body: dict[str, Any]) -> Problem | None:
    pointers = []
    if body.get("type") in ("recurring", "journey"):
        pointers.append(("/type", f"campaigns of type {body['type']}"))
    schedule = body.get("schedule")
    if isinstance(schedule, dict):
        if "local_time" in schedule:
            pointers.append(("/schedule/local_time", "start at each member's local time"))
        if schedule.get("timezone") == "member":
            pointers.append(("/schedule/timezone", "schedules in each member's zone"))
    channels = body.get("channels")
    if isinstance(channels, list) and "social" in channels:
        pointers.append((f"/channels/{channels.index('social')}", "the social channel"))
    if not pointers:
        return None
    detail = f"Not served yet: {', '.join(what for _, what in pointers)}"
    errors = [invalid(pointer, "not_implemented", what) for pointer, what in pointers]
    return Problem(501, "not-implemented", "This is not served yet", detail, errors)


def _mistakes(c: CampaignBody) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def wrong(pointer: str, code: str, detail: str) -> None:
        found.append(invalid(pointer, code, detail))

    if not c.channels:
        wrong("/channels", "required", "at least one channel")
    elif len(set(c.channels)) < len(c.channels):
        wrong("/channels", "repeated", "each channel once")
    if not c.template:
        wrong("/template", "required", "id of a template")
    if c.class_ == "marketing" and not c.topic:
        wrong("/topic", "required", "a marketing campaign names the topic members consent to")
    if c.topic == "*":
        wrong("/topic", "invalid", '"*" stands for a whole channel; name one topic')
    if c.priority not in PRIORITIES:
        wrong("/priority", "out_of_range", f"0 to {PRIORITIES[-1]}")
    if not math.isfinite(c.value) or c.value < 0:
        wrong("/value", "out_of_range", "a finite number, 0 or more")
    _duration(found, "/expires_after", c.expires_after, positive=True)
    _audience(found, c)
    if c.type == "broadcast":
        for field in ("trigger", "reentry"):
            if getattr(c, field) is not None:
                wrong(f"/{field}", "not_allowed", "only triggered campaigns have one")
    else:
        if c.schedule is not None:
            wrong("/schedule", "not_allowed", "a triggered campaign is open from its start on")
        if c.trigger is None:
            wrong("/trigger", "required", "what starts it: event, segment or api")
        else:
            _trigger(found, c.trigger)
        if isinstance(c.reentry, After):
            _duration(found, "/reentry/after", c.reentry.after, positive=True)
    if c.schedule is not None and c.schedule.at != "now":
        try:
            from_iso(c.schedule.at)
        except ValueError as e:
            wrong("/schedule/at", "invalid_time", f'"now" or an instant: {e}')
    if c.goal is not None:
        if not c.goal.event:
            wrong("/goal/event", "required", "name of an event")
        _duration(found, "/goal/within", c.goal.within, positive=True)
        found.extend(mistakes(c.goal.where, "/goal/where"))
    return found


def _audience(found: list[dict[str, str]], c: CampaignBody) -> None:
    if c.audience is None:
        if c.type == "broadcast":
            found.append(invalid("/audience", "required", 'who it is for: {"segment": id} or {"rule": rule}'))
    elif (c.audience.segment is None) == (c.audience.rule is None):
        found.append(invalid("/audience", "invalid", "exactly one of segment, rule"))
    elif c.audience.segment == "":
        found.append(invalid("/audience/segment", "required", "id of a segment"))


def _trigger(found: list[dict[str, str]], t: Trigger) -> None:
    given = [name for name, v in (("event", t.event), ("segment", t.segment), ("api", t.api)) if v is not None]
    if len(given) != 1:
        found.append(invalid("/trigger", "invalid", "exactly one of event, segment, api"))
        return
    kind = given[0]
    if not getattr(t, kind):
        detail = {"event": "name of an event", "segment": "id of a segment", "api": "true"}[kind]
        found.append(invalid(f"/trigger/{kind}", "required", detail))
    if kind == "segment" and t.on is None:
        found.append(invalid("/trigger/on", "required", "entered or left"))
    if kind != "segment" and t.on is not None:
        found.append(invalid("/trigger/on", "not_allowed", "only with a segment"))
    if kind != "event" and t.where:
        found.append(invalid("/trigger/where", "not_allowed", "only with an event"))
    if kind == "api" and t.max_age is not None:
        found.append(invalid("/trigger/max_age", "not_allowed", "only with an event or a segment"))
    if t.cancel_on is not None and not t.delay:
        found.append(invalid("/trigger/cancel_on", "not_allowed", "only with a delay: there is nothing to call off"))
    _duration(found, "/trigger/delay", t.delay)
    _duration(found, "/trigger/max_age", t.max_age, positive=True)
    found.extend(mistakes(t.where, "/trigger/where"))
    if t.cancel_on is not None:
        if not t.cancel_on.event:
            found.append(invalid("/trigger/cancel_on/event", "required", "name of an event"))
        found.extend(mistakes(t.cancel_on.where, "/trigger/cancel_on/where"))


def _duration(found: list[dict[str, str]], pointer: str, text: str | None, positive: bool = False) -> None:
    if text is None:
        return
    try:
        ms = parse_duration(text)
    except ValueError as e:
        found.append(invalid(pointer, "invalid_duration", str(e)))
        return
    if positive and not ms:
        found.append(invalid(pointer, "invalid_duration", "longer than nothing"))
