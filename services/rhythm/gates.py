"""One function per gate. Pure.

Each looks at one touch, one member and one instant, and returns its verdict with what it looked at.
A gate that passes says so briefly (STREAMS 31).
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from rondo_common.clock import iso
from rondo_common.records import GateVerdict, Touch
from services.rhythm import budgets, consent
from services.rhythm.model import Member, Snapshot
from services.rhythm.policies import ALL, Budget, Quiet
from services.rhythm.quiet import Window, Windows, minutes, wall
from services.rhythm.zones import SOURCES, zones_of

GATES = (
    "audience",
    "erased",
    "suppressed",
    "consent",
    "tempo",
    "stopped",
    "expiry",
    "holdout",
    "open_dialogue",
    "reachable",
    "quiet_hours",
    "budget",
    "min_gap",
    "conflict",
    "learned_hour",
    "pacing",
)
"""In the order they are asked (WIRE 8)."""

CHANNELS_SERVED = ("email", "sms", "messaging")
_SHOWN = 10
"""Most ledger lines a decision names, the newest."""
_HORIZON_MS = 10 * 86_400_000
"""Quiet hours repeat weekly: what together leaves no gap within this never does."""
_EVERY_DAY = frozenset(range(7))


class Found(NamedTuple):
    """What a gate found. `until` (ms) of a deferral: when this gate passes as known now, None when
    only an event can tell."""

    shown: GateVerdict
    until: int | None = None

    @property
    def verdict(self) -> str:
        return self.shown.verdict


PASS = {gate: Found(GateVerdict(gate, "pass")) for gate in GATES}


def passing(gate: str, inputs: dict[str, Any], policy: str | None = None) -> Found:
    return Found(GateVerdict(gate, "pass", policy=policy, inputs=inputs))


def skip(gate: str, reason: str, inputs: dict[str, Any] | None = None, policy: str | None = None) -> Found:
    return Found(GateVerdict(gate, "skip", reason, policy=policy, inputs=inputs))


def defer(
    gate: str, reason: str, until: int | None, inputs: dict[str, Any] | None = None, policy: str | None = None
) -> Found:
    at = None if until is None else iso(until)
    return Found(GateVerdict(gate, "defer", reason, at, policy, inputs), until)


def erased(contact: Snapshot | None) -> Found:
    return skip("erased", "erased") if contact is not None and contact.erased else PASS["erased"]


def suppressed(contact: Snapshot | None, channel: str) -> Found:
    """An address that bounced, complained or was taken out by hand is used for nothing, whatever the
    class: delivery's last gate says the same."""
    if contact is None or not contact.suppressed:
        return PASS["suppressed"]
    reason = contact.suppressed.get(channel) or contact.suppressed.get(ALL)
    if reason is None:
        return PASS["suppressed"]
    return skip("suppressed", f"suppressed_{reason}", {"channel": channel})


def consented(contact: Snapshot | None, channel: str, topic: str, marketing: bool) -> Found:
    if not marketing:
        return PASS["consent"]
    said = consent.verdict(contact.consents, channel, topic) if contact is not None else None
    if said is None:
        return skip("consent", "consent_missing", {"channel": channel, "topic": topic})
    inputs = {"event_id": said.event_id, "state": said.state}
    if said.state != "granted":
        return skip("consent", "consent_denied", {**inputs, "channel": channel, "topic": said.topic})
    return passing("consent", inputs)


def tempo(contact: Snapshot | None, marketing: bool, now: int) -> Found:
    until = contact.paused_until if contact is not None else None
    if not marketing or until is None or until <= now:
        return PASS["tempo"]
    return defer("tempo", "paused_by_member", until, {"paused_until": iso(until)})


def stopped(stop: str | None, campaign: str) -> Found:
    """`stop` is paused, cancelled or None."""
    if stop == "cancelled":
        return skip("stopped", "campaign_cancelled", {"campaign": campaign})
    if stop is not None:
        return defer("stopped", "campaign_paused", None, {"campaign": campaign})
    return PASS["stopped"]


def expiry(not_after: int | None, now: int) -> Found:
    if not_after is not None and now > not_after:
        return skip("expiry", "expired", {"not_after": iso(not_after)})
    return PASS["expiry"]


def too_late(not_after: int, blocked_by: str, until: int) -> Found:
    """The expiry gate of a touch that could go at `until` at the earliest, which is too late."""
    inputs = {"blocked_by": blocked_by, "not_after": iso(not_after), "until": iso(until)}
    return skip("expiry", "expired", inputs)


def open_dialogue(member: Member, marketing: bool) -> Found:
    held_by = member.conversation() if marketing else None
    if held_by is None:
        return PASS["open_dialogue"]
    return defer("open_dialogue", "open_dialogue", None, {"conversation_id": held_by})


def reachable(contact: Snapshot | None, channel: str) -> Found:
    if channel not in CHANNELS_SERVED:
        return skip("reachable", "channel_unusable", {"channel": channel})
    if contact is None or channel not in contact.reachable:
        return skip("reachable", "no_address", {"channel": channel})
    return PASS["reachable"]


def quiet_that_count(policies: Iterable[Quiet], contact: Snapshot | None, channel: str) -> list[Quiet]:
    """Quiet hours that hold marketing on `channel`: the workspace's, then the member's own."""
    found = [q for q in policies if q.covers(channel)]
    if contact is not None and contact.quiet is not None:
        found.append(_own_quiet(*contact.quiet))
    return found


@lru_cache(maxsize=4096)
def _own_quiet(start: str, end: str) -> Quiet:
    window = Window(_EVERY_DAY, minutes(start), minutes(end))
    return Quiet(None, frozenset((ALL,)), Windows((window,)), SOURCES)


class QuietView:
    """All quiet hours that count for one member and channel, together."""

    def __init__(self, quiets: list[Quiet], contact: Snapshot | None, workspace_zone: str):
        self.places = [(q, *zones_of(q.chain, contact, workspace_zone)) for q in quiets]

    def blocker(self, t: int) -> tuple[Quiet, str, str, int | None] | None:
        """The first quiet hours at `t`: policy, zone, its source, and when they end (None: never)."""
        for quiet, zones, source in self.places:
            for zone in zones:
                is_quiet, change = quiet.windows.at(t, zone)
                if is_quiet:
                    return quiet, zone, source, change
        return None

    def free_from(self, t: int) -> int | None:
        """Earliest instant from `t` on outside all quiet hours, None when together they never end."""
        horizon = t + _HORIZON_MS
        while t <= horizon:
            blocked = self.blocker(t)
            if blocked is None:
                return t
            if blocked[3] is None:
                return None
            t = blocked[3]
        return None

    def next_quiet(self, t: int) -> int | None:
        """When quiet hours begin next, seen from a free `t`; None for never."""
        changes = (q.windows.at(t, zone)[1] for q, zones, _ in self.places for zone in zones)
        return min((c for c in changes if c is not None), default=None)


NO_QUIET = QuietView([], None, "UTC")
"""Of a message that no quiet hours hold."""


def quiet_hours(view: QuietView, now: int) -> Found:
    if not view.places:
        return PASS["quiet_hours"]
    blocked = view.blocker(now)
    if blocked is None:
        quiet, zones, source = view.places[0]
        return passing("quiet_hours", {"zone": zones[0], "zone_source": source}, quiet.ref)
    quiet, zone, source, _ = blocked
    local = wall(now, zone).replace(tzinfo=None, microsecond=0).isoformat()
    inputs = {"local": local, "zone": zone, "zone_source": source}
    if quiet.ref is None:
        inputs["set_by"] = "member"
    until = view.free_from(now)
    if until is None:
        return skip("quiet_hours", "quiet_hours", inputs, quiet.ref)
    return defer("quiet_hours", "quiet_hours", until, inputs, quiet.ref)


def budget(counting: list[Budget], member: Member, channel: str, now: int) -> Found:
    """The tightest one decides what is shown: one that says skip, else the one that frees last."""
    worst: Found | None = None
    least: tuple[float, Found] | None = None
    for b in counting:
        use = budgets.use(b, member.ledger, channel, now)
        if use.passes_at == now:
            room = b.limit - use.used - use.weight
            if least is None or room < least[0]:
                least = (room, passing("budget", {"limit": b.limit, "used": use.used, "weight": use.weight}, b.ref))
            continue
        inputs = {
            "counted": list(use.counted[-_SHOWN:]),
            "limit": b.limit,
            "per_s": b.per // 1000,
            "used": use.used,
            "weight": use.weight,
        }
        if b.skips or use.passes_at is None:
            return skip("budget", "budget_exceeded", inputs, b.ref)
        if worst is None or use.passes_at > (worst.until or 0):
            worst = defer("budget", "budget_exceeded", use.passes_at, inputs, b.ref)
    if worst is not None:
        return worst
    return least[1] if least is not None else PASS["budget"]


def min_gap(counting: list[Budget], member: Member, now: int) -> Found:
    worst: Found | None = None
    for b in counting:
        if not b.min_gap:
            continue
        until, last = budgets.gap_passes_at(b, member.ledger, now)
        if until > now and last is not None and (worst is None or until > (worst.until or 0)):
            inputs = {"last": iso(last), "min_gap_s": b.min_gap // 1000}
            worst = defer("min_gap", "min_gap", until, inputs, b.ref)
    return worst or PASS["min_gap"]


def counting_budgets(policies: Iterable[Budget], touch: Touch, channel: str) -> list[Budget]:
    """Budgets that may hold this touch."""
    return [b for b in policies if b.covers(channel, touch.topic)]
