"""What a member's state looks like to people. Pure."""

from typing import Any

import msgspec

from rondo_common.clock import iso
from rondo_common.records import Touch
from services.rhythm.agenda import order
from services.rhythm.budgets import use
from services.rhythm.model import NEVER, Member, Slot
from services.rhythm.policies import Budget, Policies

_touches = msgspec.json.Decoder(Touch)
_SHOWN_CHANNELS = ("email", "sms", "messaging")


def budget(member_id: str, member: Member, policies: Policies, now: int) -> dict[str, Any]:
    """The ledger, and how each budget stands at `now`."""
    return {
        "as_of": iso(now),
        "member_id": member_id,
        "policies": [_stand(b, member, now) for b in policies.budgets],
        "entries": [
            {"touch_id": e.touch_id, "at": iso(e.at), "channel": e.channel, "topic": e.topic}
            for e in sorted(member.ledger, key=lambda e: (e.at, e.touch_id))
        ],
    }


def _stand(b: Budget, member: Member, now: int) -> dict[str, Any]:
    """`frees_at`: when the next message fits, by channel; null when none ever does."""
    uses = {c: use(b, member.ledger, c, now) for c in _SHOWN_CHANNELS if "*" in b.channels or c in b.channels}
    used = max((u.used for u in uses.values()), default=0)
    return {
        "policy": b.ref,
        "limit": b.limit,
        "per_s": b.per // 1000,
        "min_gap_s": b.min_gap // 1000,
        "used": used,
        "left": max(0, b.limit - used),
        "channels": sorted(b.channels),
        "topics": sorted(b.topics),
        "frees_at": {c: None if u.passes_at is None else iso(u.passes_at) for c, u in uses.items()},
    }


def agenda(member_id: str, member: Member, now: int) -> dict[str, Any]:
    """Touches that wait, in the order they would be decided, then those on their way."""
    shown = [(s, _touches.decode(s.touch)) for s in member.agenda]
    shown.sort(key=lambda pair: (not pair[0].waiting, order(pair[1])))
    return {
        "as_of": iso(now),
        "member_id": member_id,
        "conversation_id": member.conversation(),
        "touches": [_slot(s, touch) for s, touch in shown],
    }


def _slot(s: Slot, touch: Touch) -> dict[str, Any]:
    return {
        "touch_id": s.touch_id,
        "campaign": s.campaign,
        "run_id": touch.run_id,
        "class": touch.class_,
        "priority": touch.priority,
        "status": "parked" if s.status == "arriving" else s.status,
        "reason": s.reason or None,
        "channel": s.channel or None,
        "attempt": s.attempt,
        "since": iso(s.since),
        "due": None if s.due == NEVER else iso(s.due),
        "not_after": touch.not_after,
    }
