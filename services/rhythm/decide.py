"""The gate's decision about one touch. Pure: the same arguments always give the same verdict.

Gates are asked in the fixed order of WIRE 8. All are listed up to and including the first that says
skip. A touch is sent when none says skip or defer; `until` of a deferral is the earliest instant at
which all of them pass as known now, None when that hangs on an event (a conversation that closes,
a campaign that goes on).

Choices where the contract leaves room:
- Channel: the first one in order that no gate about channels (suppressed, consent, reachable) skips,
  else the first listed one with its reason. Gates about the whole member or campaign don't depend on
  the channel and so don't choose it.
- Each gate judges the instant of the decision. A budget that says skip when exceeded skips also
  within quiet hours.
- A touch that can't go before its not_after is skipped as `expired` at once; the expiry gate's inputs
  name what blocks it and until when.
- A deferral's reason is that of the first gate that defers.
"""

from collections.abc import Sequence

import msgspec

from rondo_common.clock import from_iso
from rondo_common.records import GateVerdict, Touch
from services.rhythm import gates
from services.rhythm.gates import NO_QUIET, PASS, Found, QuietView
from services.rhythm.model import Member, Snapshot
from services.rhythm.policies import Budget, Policies

DECIDE_VERSION = 1
"""Version of this function, on every decision it makes."""

SEND_WITHIN_MS = 300_000
"""A send is good for five minutes (STREAMS 22)."""

_ALL = [PASS[gate] for gate in gates.GATES]
_ERASED, _SUPPRESSED, _CONSENT, _TEMPO, _STOPPED, _EXPIRY, _DIALOGUE, _REACHABLE, _QUIET, _BUDGET, _GAP = (
    gates.GATES.index(gate)
    for gate in (
        *("erased", "suppressed", "consent", "tempo", "stopped", "expiry", "open_dialogue", "reachable"),
        *("quiet_hours", "budget", "min_gap"),
    )
)
"""Places of the gates that look at something."""


class Verdict(msgspec.Struct, frozen=True):
    """`verdict` is send, defer or skip. `until` of a deferral in ms, None when it hangs on an event.
    `send_by` of a send: last instant (ms) at which it may leave."""

    verdict: str
    channel: str
    gates: tuple[GateVerdict, ...]
    reason: str | None = None
    until: int | None = None
    send_by: int | None = None


def decide(
    touch: Touch, member: Member, policies: Policies, stop: str | None, now: int, workspace_zone: str = "UTC"
) -> Verdict:
    """Decide about `touch` at `now` (ms). `stop`: paused or cancelled when its campaign is."""
    contact = member.contact
    marketing = touch.class_ != "transactional"
    channel = _channel(touch, contact, marketing)
    if contact is not None and contact.merged_into is not None:
        merged = gates.skip("audience", "merged", {"merged_into": contact.merged_into})
        return Verdict("skip", channel, (merged.shown,), "merged")
    not_after = from_iso(touch.not_after) if touch.not_after else None
    quiet = _quiet(policies, contact, channel, workspace_zone) if marketing else NO_QUIET
    counting = gates.counting_budgets(policies.budgets, touch, channel) if marketing and policies.budgets else []
    found = _found(touch, member, channel, marketing, stop, not_after, quiet, counting, now)
    listed = tuple([f.shown for f in found])
    held = [f for f in found if f.until is not None or f.shown.verdict != "pass"]
    if not held:
        return Verdict("send", channel, listed, send_by=_send_by(now, not_after, quiet))
    verdict = _first_skip(found, channel)
    if verdict is not None:
        return verdict
    until = _until(held, quiet, now)
    if until is not None and not_after is not None and until > not_after:
        late = [*found[:_EXPIRY], gates.too_late(not_after, held[0].shown.gate, until)]
        return _first_skip(late, channel) or Verdict("skip", channel, listed)
    return Verdict("defer", channel, listed, held[0].shown.reason, until)


def _found(
    touch: Touch,
    member: Member,
    channel: str,
    marketing: bool,
    stop: str | None,
    not_after: int | None,
    quiet: QuietView,
    counting: list[Budget],
    now: int,
) -> list[Found]:
    """What each gate found, in their order. Most pass because there is nothing to look at; those are not
    even asked, which halves the time of the usual decision."""
    contact = member.contact
    found = _ALL.copy()
    if contact is not None:
        if contact.erased:
            found[_ERASED] = gates.erased(contact)
        if contact.suppressed:
            found[_SUPPRESSED] = gates.suppressed(contact, channel)
    if marketing:
        found[_CONSENT] = gates.consented(contact, channel, touch.topic, True)
        if contact is not None and contact.paused_until is not None:
            found[_TEMPO] = gates.tempo(contact, True, now)
        if member.talks:
            found[_DIALOGUE] = gates.open_dialogue(member, True)
    if stop is not None:
        found[_STOPPED] = gates.stopped(stop, touch.campaign)
    if not_after is not None:
        found[_EXPIRY] = gates.expiry(not_after, now)
    found[_REACHABLE] = gates.reachable(contact, channel)
    if quiet.places:
        found[_QUIET] = gates.quiet_hours(quiet, now)
    if counting:
        found[_BUDGET] = gates.budget(counting, member, channel, now)
        found[_GAP] = gates.min_gap(counting, member, now)
    return found


def _quiet(policies: Policies, contact: Snapshot | None, channel: str, workspace_zone: str) -> QuietView:
    """The quiet hours of a marketing message."""
    if not policies.quiet and (contact is None or contact.quiet is None):
        return NO_QUIET
    return QuietView(gates.quiet_that_count(policies.quiet, contact, channel), contact, workspace_zone)


def _channel(touch: Touch, contact: Snapshot | None, marketing: bool) -> str:
    order = _order(touch, contact)
    if len(order) == 1:
        return order[0]
    for channel in order:
        if (
            gates.suppressed(contact, channel).verdict == "pass"
            and gates.consented(contact, channel, touch.topic, marketing).verdict == "pass"
            and gates.reachable(contact, channel).verdict == "pass"
        ):
            return channel
    return touch.channels[0]


def _order(touch: Touch, contact: Snapshot | None) -> Sequence[str]:
    """The touch's channels as they are tried: under `preferred` the member's preferred one first, then
    those of the member's list in its order, then the rest as listed."""
    if touch.channel_rule != "preferred" or contact is None:
        return touch.channels
    wanted = [c for c in (contact.preferred, *contact.channels) if c in touch.channels]
    return list(dict.fromkeys([c for c in wanted if c is not None] + touch.channels))


def _first_skip(found: Sequence[Found], channel: str) -> Verdict | None:
    for i, f in enumerate(found):
        if f.verdict == "skip":
            return Verdict("skip", channel, tuple(g.shown for g in found[: i + 1]), f.shown.reason)
    return None


def _until(held: Sequence[Found], quiet: QuietView, now: int) -> int | None:
    """Earliest instant at which all gates pass. Pause, budgets and gaps stay passed once they pass, as
    nothing else is known to be sent; so after the last of them only quiet hours can be in the way."""
    if any(f.until is None for f in held):
        return None
    return quiet.free_from(max([now, *(f.until for f in held if f.until is not None)]))


def _send_by(now: int, not_after: int | None, quiet: QuietView) -> int:
    """Five minutes, cut at the last instant before quiet hours and at not_after."""
    end = now + SEND_WITHIN_MS
    if not_after is not None:
        end = min(end, not_after)
    if quiet.places and (begins := quiet.next_quiet(now)) is not None:
        end = min(end, begins - 1)
    return max(now, end)
