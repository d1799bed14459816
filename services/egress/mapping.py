"""What happened inside, as CRMs are told. Pure.

One inside record gives at most one public event. Its id follows from the record's own id, so that a
repeat is recognised; its bytes are the Kafka value and the webhook's body alike (WIRE 10).
"""

from typing import Any, NamedTuple

import msgspec

from rondo_common.records import CommunityEvent, Decision, Engagement, MemberEvent, MembershipChange
from rondo_common.records.outside import CrmEvent


class Public(NamedTuple):
    """A public event: its id, the member, and what is said."""

    id: str
    member_id: str
    event: CrmEvent


_MEMBER = {
    "member.created": "member.created",
    "member.updated": "member.updated",
    "member.merged": "member.merged",
    "member.erased": "member.erased",
    "consent.changed": "consent.changed",
    "inbound.received": "inbound.received",
}
INSIDE = frozenset({"track", "page", "screen", "group", "traits.late", "consent.late"})
"""Kinds of member event that are not told: CRMs sent them themselves, or see them in another."""
DELIVERY = {
    "accepted": "message.sent",
    "delivered": "message.delivered",
    "bounced": "message.bounced",
    "complained": "message.complained",
    "rejected": "message.failed",
    "unknown": "message.unknown",
}


class Outcome(msgspec.Struct, frozen=True):
    """Of a Delivery what CRMs are told."""

    workspace: str
    id: str
    touch_id: str
    member_id: str
    channel: str
    provider: str
    status: str
    at: str
    campaign: str = ""
    run_id: str = ""
    reason: str | None = None
    provider_id: str | None = None
    settled: bool = False


class _Sent(msgspec.Struct, omit_defaults=True):
    """`data` of what is told of a message, the most frequent public event: what is empty is left out, as
    `_clean` does."""

    workspace: str = ""
    member_id: str = ""
    user_id: str = ""
    campaign: str = ""
    run_id: str = ""
    touch_id: str = ""
    channel: str = ""
    provider: str = ""
    provider_id: str = ""
    reason: str = ""
    settled: bool = False


_DECISION = {"skip": "message.skipped", "defer": "message.deferred"}
_ENGAGEMENT = {"opened": "message.opened", "clicked": "message.clicked", "unsubscribed": "message.unsubscribed"}


def _clean(data: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if v not in (None, "")}


def of_member(e: MemberEvent, user_id: str | None) -> Public | None:
    """Track and page events stay inside: CRMs sent or see them elsewhere. A merge is told once, at the
    winner."""
    kind = _MEMBER.get(e.kind)
    if kind is None or (e.kind == "member.merged" and e.merged_from is None):
        return None
    data: dict[str, Any] = {"workspace": e.workspace, "member_id": e.member_id, "user_id": e.user_id or user_id}
    if e.traits:
        data["traits"] = {k: msgspec.json.decode(v) for k, v in e.traits.items()}
    if e.consent:
        c = e.consent
        data |= {"channel": c.channel, "topic": c.topic, "state": c.state, "source": c.source}
    if e.inbound:
        data |= e.inbound
    data["merged_from"] = e.merged_from
    data["historical"] = e.historical or None
    return Public(e.id, e.member_id, CrmEvent(kind, e.timestamp, _clean(data)))


def of_membership(c: MembershipChange, user_id: str | None) -> Public | None:
    """Markers of a finished backfill are nobody's business outside."""
    if c.change not in ("entered", "left") or c.member_id is None:
        return None
    data = {
        "workspace": c.workspace,
        "member_id": c.member_id,
        "user_id": user_id,
        "segment": c.segment,
        "version": c.version,
        "historical": c.historical or None,
    }
    return Public(c.id, c.member_id, CrmEvent(f"segment.{c.change}", c.at, _clean(data)))


def of_decision(d: Decision, user_id: str | None) -> Public | None:
    """A message held or not sent, and why. One that was let through is told by its delivery."""
    kind = _DECISION.get(d.verdict)
    if kind is None:
        return None
    data = {
        "workspace": d.workspace,
        "member_id": d.member_id,
        "user_id": user_id,
        "campaign": d.campaign,
        "run_id": d.run_id,
        "touch_id": d.touch_id,
        "channel": d.channel,
        "reason": d.reason,
        "until": d.until,
    }
    return Public(d.decision_id, d.member_id, CrmEvent(kind, d.decided_at, _clean(data)))


def of_delivery(d: Outcome, user_id: str | None) -> Public | None:
    """Returned and cancelled sends were never tried: the decision that follows says what becomes of them."""
    kind = DELIVERY.get(d.status)
    if kind is None:
        return None
    data = _Sent(
        d.workspace,
        d.member_id,
        user_id or "",
        d.campaign,
        d.run_id,
        d.touch_id,
        d.channel,
        d.provider,
        d.provider_id or "",
        d.reason or "",
        d.settled,
    )
    return Public(d.id, d.member_id, CrmEvent(kind, d.at, data))  # type: ignore[arg-type]


def of_engagement(e: Engagement, user_id: str | None) -> Public | None:
    """Opens and clicks say whether a person or a machine made them."""
    kind = _ENGAGEMENT.get(e.kind)
    if kind is None:
        return None
    data = {
        "workspace": e.workspace,
        "member_id": e.member_id,
        "user_id": user_id,
        "campaign": e.campaign,
        "run_id": e.run_id,
        "touch_id": e.touch_id,
        "channel": e.channel,
        "actor": e.actor,
        "link": e.link,
    }
    return Public(e.id, e.member_id, CrmEvent(kind, e.at, _clean(data)))


def of_conversation(e: CommunityEvent, user_id: str | None) -> Public | None:
    """Conversations opened and closed; what is said in them is told as inbound.received."""
    if e.kind not in ("conversation.opened", "conversation.closed"):
        return None
    data = {
        "workspace": e.workspace,
        "member_id": e.member_id,
        "user_id": user_id,
        "conversation_id": e.conversation_id,
        "channel": e.channel,
        "actor": e.actor,
    }
    return Public(e.id, e.member_id, CrmEvent(e.kind, e.at, _clean(data)))


def wanted(types: list[str], kind: str) -> bool:
    """Whether a webhook's list of types, such as message.* or *, names `kind`."""
    return any(t in ("*", kind) or (t.endswith(".*") and kind.startswith(t[:-1])) for t in types)
