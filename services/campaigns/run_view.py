"""A run as the API shows it (WIRE 7): its parts added up. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from rondo_common.clock import iso
from services.campaigns.model import RunShare
from services.campaigns.run_counts import RATE_WINDOW_S, outstanding, shown
from services.campaigns.touch_progress import BUCKETS, WITH_REASONS


class RunFacts(NamedTuple):
    """What the run's definition says. `members`: how many an API trigger names, None for the others;
    `due`: when it begins (ms)."""

    run_id: str
    campaign: str
    version: int
    kind: str
    started_at: int
    due: int
    members: int | None = None


class Part(NamedTuple):
    """One partition's answer: its share, and whether the campaign is paused there."""

    share: RunShare | None
    paused: bool


def run_view(facts: RunFacts, parts: Sequence[Part], now: int) -> dict[str, Any]:
    """The answer of GET /v1/runs/{id}. `now` (ms) only says whether a start lies ahead and, with the
    accepted touches of the last seconds, the rate."""
    shares = [p.share for p in parts if p.share is not None]
    counts = Counter[str]()
    reasons: dict[str, Counter[str]] = {b: Counter() for b in BUCKETS if b in WITH_REASONS}
    engagement = Counter[str]()
    for share in shares:
        counts.update(share.counts)
        engagement.update(share.engagement)
        for bucket, by in share.reasons.items():
            reasons[bucket].update(by)
    counts = Counter(shown(counts))
    status = _status(facts, parts, now)
    rate = _rate(shares, now)
    left = counts["pending"] + counts["queued"]
    changed = max((s.changed_at for s in shares), default=facts.started_at)
    return {
        "run_id": facts.run_id,
        "campaign": facts.campaign,
        "version": facts.version,
        "kind": facts.kind,
        "status": status,
        "started_at": iso(max(facts.started_at, facts.due)),
        "finished_at": iso(changed) if status == "finished" else None,
        "audience": sum(s.audience for s in shares),
        "touches": sum(s.touches for s in shares),
        "counts": {b: counts[b] for b in BUCKETS},
        "reasons": {b: {r: n for r, n in sorted(by.items()) if n} for b, by in reasons.items()},
        "engagement": {k: n for k, n in sorted(engagement.items()) if n},
        "rate_per_s": rate,
        "eta_s": _eta(status, left, rate),
    }


def _status(facts: RunFacts, parts: Sequence[Part], now: int) -> str:
    phases = [p.share.phase if p.share else "" for p in parts]
    shares = [p.share for p in parts if p.share is not None]
    if "cancelled" in phases:
        return "cancelled"
    if facts.members is None:
        done = bool(phases) and all(p == "expanded" for p in phases)
    else:
        done = sum(s.handled for s in shares) >= facts.members
    if done and not sum(outstanding(s) for s in shares):
        return "finished"
    if any(p.paused for p in parts):
        return "paused"
    return "scheduled" if facts.due > now and all(p in ("", "waiting") for p in phases) else "running"


def _rate(shares: Sequence[RunShare], now: int) -> float | None:
    """Accepted touches a second over the last seconds in which there were any; None without."""
    second = now // 1000
    recent = [r for s in shares for r in s.recent if 0 <= second - r[0] <= RATE_WINDOW_S]
    if not recent:
        return None
    span = max(1, second - min(r[0] for r in recent))
    return round(sum(n for _, n in recent) / span, 1)


def _eta(status: str, left: int, rate: float | None) -> int | None:
    if status == "finished":
        return 0
    if status != "running" or not rate:
        return None
    return -int(-left // rate)
