"""The last gate, right before a message is rendered and written ahead. Pure.

The rhythm gate decided earlier, from what it knew then; here the newest stop flags, consents and
suppressions of the partition are asked again (DESIGN 4.5), and the send's window (STREAMS 22).
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from rondo_common.clock import from_iso
from rondo_common.records import Send
from services.delivery.model import MemberState

MARKETING = "marketing"

_ms = lru_cache(maxsize=4096)(from_iso)
"""A broadcast's sends share their windows."""


class Way(StrEnum):
    """Where the gate sends a message."""

    GO = "go"
    HOLD = "hold"
    LATER = "later"
    CANCEL = "cancel"
    RETURN = "return"
    REJECT = "reject"


class Passage(msgspec.Struct, frozen=True):
    """The gate's answer. `reason` is a code of WIRE 8; `due` (ms) of LATER only."""

    way: Way
    reason: str | None = None
    due: int = 0


_GO = Passage(Way.GO)


def consent(entries: Mapping[str, str], topic: str) -> str | None:
    """Verdict for a topic, from one channel's newest statements by topic (WIRE 2): a denied "*" wins,
    else the topic's entry, else the "*" entry. None when nothing was said: marketing may not go."""
    whole = entries.get("*")
    if whole == "denied":
        return whole
    return entries.get(topic) or whole


def suppressed(member: MemberState) -> str | None:
    """Reason why this very address must not be used, None when it may."""
    for s in member.suppressions:
        if s.address_id is None or s.address_id == member.address_id:
            return f"suppressed_{s.reason}"
    return None


def allowed(send: Send, member: MemberState) -> str | None:
    """Reason why this member must not get this message at all, None when they may. Consent is asked
    of marketing only."""
    if member.gone:
        return member.gone
    if reason := suppressed(member):
        return reason
    if send.class_ == MARKETING:
        state = consent(member.consents, send.topic)
        if state != "granted":
            return "consent_denied" if state else "consent_missing"
    return None if member.address else "no_address"


def passage(send: Send, member: MemberState, stop: str | None, now: int, again: bool = False) -> Passage:
    """What to do with `send` now. `stop` is paused, cancelled or None. `again`: this is the second
    sending of a transactional message of unknown outcome, which its window no longer bounds."""
    if stop == "cancelled":
        return Passage(Way.CANCEL, "campaign_cancelled")
    if stop == "paused":
        return Passage(Way.HOLD, "campaign_paused")
    if not again and now > _ms(send.send_by):
        return Passage(Way.RETURN, "window_passed")
    due = _ms(send.not_before)
    if due > now:
        return Passage(Way.LATER, "not_before", due)
    reason = allowed(send, member)
    return Passage(Way.REJECT, reason) if reason else _GO
