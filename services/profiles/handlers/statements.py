"""What reaches a member by other ways than events: its own messages, bounces and complaints,
unsubscribes, and what people set for it through the API."""

from copy import copy
from typing import Any

import msgspec

from rondo_common.clock import from_iso
from rondo_common.outcomes import Drop, Outcome, Save
from rondo_common.records import Command, Delivery, Engagement, Inbound
from services.profiles import addresses, preferences, views
from services.profiles.consent import Statement
from services.profiles.fragments import fold, held_over, later, user_id_of
from services.profiles.handlers.case import Case, forward, routed
from services.profiles.handlers.facts import told
from services.profiles.handlers.keeper import state
from services.profiles.model import CHANNEL_SET, Consent, Fragment, Hold, Member, member_state


class Suppress(msgspec.Struct):
    """Data of member.suppress. `channel` "*" is every channel; without `address_id` the whole channel is
    meant; `suppressed` false lifts what `reason` names."""

    channel: str
    suppressed: bool = True
    reason: str = "manual"
    address_id: str | None = None


def _open(case: Case, member: Member) -> Member:
    """A copy of the member whose own fragment is a copy too."""
    after = copy(member)
    f = after.own = copy(member.own)
    f.revision += 1
    f.updated = case.now if f.updated is None else max(f.updated, case.now)
    return after


def _save(case: Case, after: Member) -> Save:
    return Save(member_state(case.workspace, case.member_id), after)


def inbound(case: Case, member: Member | None, message: Inbound) -> list[Outcome]:
    """A message from the member. stop denies the whole channel, start grants it."""
    if member is None:
        return [Drop("unknown_member")]
    if member.merged_into is not None:
        return forward(case, member, "inbound", inbound=message)
    user = user_id_of(member)
    facts: dict[str, Any] = {
        "channel": message.channel,
        "text": message.text,
        "keyword": message.keyword,
        "inbound_id": message.id,
        "touch_id": message.touch_id,
    }
    out: list[Outcome] = [
        case.happened("inbound.received", message.at, event_id=message.id, user_id=user, inbound=facts)
    ]
    if message.keyword in ("stop", "start") and message.channel in CHANNEL_SET:
        verdict = "denied" if message.keyword == "stop" else "granted"
        said = Consent(from_iso(message.at), verdict, message.id, "inbound")
        out.extend(_consent(case, member, Statement(message.channel, "*", said), message.at))
    return out


def stop_too(case: Case, member_id: str, message: Inbound) -> Outcome:
    """STOP is about the number: every other member who states it is asked no more either. For them it is
    an unsubscribe, so that the one message is received, answered and confirmed once."""
    unsubscribed = Engagement(
        message.workspace, message.id, "unsubscribed", member_id, message.at, channel=message.channel
    )
    return routed(case, "engagement", member_id, case.minted, engagement=unsubscribed)


def _consent(case: Case, member: Member, statement: Statement, timestamp: str) -> list[Outcome]:
    after = _open(case, member)
    more: dict[str, Any] = {"event_id": statement.consent.event_id, "user_id": user_id_of(member)}
    out = state(case, after, statement, timestamp, more)
    return [*out, *told(case, member, after), _save(case, after)]


def delivery(case: Case, member: Member | None, message: Delivery) -> list[Outcome]:
    """A permanent bounce or refusal, or a complaint: the address is used no more. A record that does not
    say which address it went to is about the one the member has now."""
    if member is None:
        return [Drop("unknown_member")]
    if member.merged_into is not None:
        return forward(case, member, "delivery", delivery=message)
    address = message.address_id
    if address is None:
        kind = addresses.ADDRESS_OF.get(message.channel)
        value = views.facts(fold(member)).get(kind) if kind is not None else None
        if kind is None or value is None:
            return [Drop("no_address_to_suppress")]
        address = addresses.address_id(case.secret, kind, value)
    reason = "complaint" if message.status == "complained" else "bounce"
    return _hold(case, member, {f"{message.channel}:{reason}:{address}": Hold(from_iso(message.at))})


SUPPRESSING = frozenset(("complained", "bounced", "rejected"))
"""Statuses of deliveries that may end the use of an address."""


def suppresses(message: Delivery) -> bool:
    """Whether a delivery record ends the use of its address."""
    return message.status == "complained" or (message.permanent and message.status in ("bounced", "rejected"))


def _hold(case: Case, member: Member, holds: dict[str, Hold]) -> list[Outcome]:
    """Only what changes: a second bounce of an address leaves the first."""
    whole = fold(member).suppressions
    won = {
        key: hold
        for key, hold in holds.items()
        if held_over(hold, have := whole.get(key)) and (have is None or have.held != hold.held)
    }
    if not won:
        return [Drop("suppressed_already")]
    after = _open(case, member)
    after.own.suppressions = {**after.own.suppressions, **won}
    return [*told(case, member, after), _save(case, after)]


def engagement(case: Case, member: Member | None, message: Engagement) -> list[Outcome]:
    """An unsubscribe denies the topic (without one the whole channel); preferences replace what they name."""
    if member is None:
        return [Drop("unknown_member")]
    if member.merged_into is not None:
        return forward(case, member, "engagement", engagement=message)
    at = from_iso(message.at)
    if message.kind == "preferences":
        return _prefer(case, member, message.data, at)
    if message.channel not in CHANNEL_SET:
        return [Drop("invalid_unsubscribe")]
    said = Consent(at, "denied", message.id, "unsubscribe")
    return _consent(case, member, Statement(message.channel, message.topic or "*", said), message.at)


def command(case: Case, member: Member | None, message: Command) -> list[Outcome]:
    """member.suppress and member.preferences."""
    if member is None:
        return [Drop("unknown_member")]
    if member.merged_into is not None:
        return forward(case, member, "command", command=message)
    at = from_iso(message.at)
    if message.kind == "member.preferences":
        return _prefer(case, member, message.data, at)
    try:
        asked = msgspec.json.decode(message.data or b"{}", type=Suppress)
    except msgspec.DecodeError:
        return [Drop("invalid_suppression")]
    if (asked.channel != "*" and asked.channel not in CHANNEL_SET) or asked.reason not in _REASONS:
        return [Drop("invalid_suppression")]
    channels = sorted(CHANNEL_SET) if asked.channel == "*" else [asked.channel]
    holds = {f"{c}:{asked.reason}:{asked.address_id or ''}": Hold(at, asked.suppressed) for c in channels}
    if not asked.suppressed and asked.address_id is None:
        started = tuple(f"{c}:{asked.reason}:" for c in channels)
        holds = {k: Hold(at, False) for k in fold(member).suppressions if k.startswith(started)}
    return _hold(case, member, holds)


_REASONS = ("manual", "bounce", "complaint")


def _prefer(case: Case, member: Member, data: msgspec.Raw | None, at: int) -> list[Outcome]:
    try:
        asked = preferences.read(data if data is not None else msgspec.Raw(b"{}"), at)
    except ValueError:
        return [Drop("invalid_preferences")]
    whole: Fragment = fold(member)
    won = {name: t for name, t in asked.items() if later(t, whole.preferences.get(name))}
    if not won:
        return [Drop("preferences_already")]
    after = _open(case, member)
    after.own.preferences = {**after.own.preferences, **won}
    return [*told(case, member, after), _save(case, after)]
