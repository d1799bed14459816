"""Moving a run's counts. Pure: each function gives a new RunShare whose counts sum to its touches."""

from msgspec.structs import replace

from services.campaigns.model import RunShare, TouchState
from services.campaigns.touch_progress import OPEN, WITH_REASONS, Report, came_from, engagement_bit

RATE_WINDOW_S = 10


def planned(share: RunShare, touches: int, now: int, members: int = 1) -> RunShare:
    """`members` more, to whom `touches` messages were written."""
    counts = _moved(share.counts, None, "pending", touches)
    return replace(
        share,
        audience=share.audience + members,
        touches=share.touches + touches,
        counts=counts,
        changed_at=max(now, share.changed_at),
    )


def let_through(share: RunShare, now: int) -> RunShare:
    """The gate's first decision about a broadcast's touch was to send it. A count may be below zero until
    the other topic is read as far; `shown` evens that out."""
    return replace(share, counts=_moved(share.counts, "pending", "queued"), changed_at=max(now, share.changed_at))


def shown(counts: dict[str, int]) -> dict[str, int]:
    """Counts without those below zero: what pending lacks, queued has too many, or the other way round."""
    if all(n >= 0 for n in counts.values()):
        return counts
    left = on_their_way_of(counts)
    rest = {b: n for b, n in counts.items() if b not in ("pending", "queued")}
    return {**rest, ("queued" if counts.get("pending", 0) < 0 else "pending"): left} if left else rest


def advance(
    share: RunShare, touch: TouchState, report: Report, now: int, kept: bool = True
) -> tuple[RunShare, TouchState] | None:
    """What a report about a touch changes; None when it says nothing new. `kept`: something is kept of
    each touch of this run from its beginning."""
    known = Report(touch.attempt, touch.rank, touch.reason, touch.bucket)
    if report <= known:
        return None
    at = max(now, touch.at)
    after = replace(touch, attempt=report.attempt, rank=report.rank, bucket=report.bucket, reason=report.reason, at=at)
    if not kept and not known.attempt:
        known = known._replace(bucket=came_from(report))
    if (known.bucket, known.reason) == (report.bucket, report.reason):
        return share, after
    reasons = share.reasons
    if known.bucket in WITH_REASONS:
        reasons = {**reasons, known.bucket: _moved(reasons.get(known.bucket, {}), known.reason, None)}
    if report.bucket in WITH_REASONS:
        reasons = {**reasons, report.bucket: _moved(reasons.get(report.bucket, {}), None, report.reason)}
    recent = _counted(share.recent, now // 1000) if report.bucket == "sent" else share.recent
    counts = _moved(share.counts, known.bucket, report.bucket)
    return replace(share, counts=counts, reasons=reasons, recent=recent, changed_at=max(now, share.changed_at)), after


def engaged(share: RunShare, touch: TouchState, name: str) -> tuple[RunShare, TouchState] | None:
    """Count an engagement once per touch; None when it was, or when it is not one that is counted."""
    bit = engagement_bit(name)
    if not bit or touch.seen & bit:
        return None
    return replace(share, engagement=_moved(share.engagement, None, name)), replace(touch, seen=touch.seen | bit)


def outstanding(share: RunShare) -> int:
    """Touches that are not at their end."""
    return sum(share.counts.get(b, 0) for b in OPEN)


def on_their_way(share: RunShare) -> int:
    """Touches that are undecided, or let through and not yet delivered."""
    return on_their_way_of(share.counts)


def on_their_way_of(counts: dict[str, int]) -> int:
    return counts.get("pending", 0) + counts.get("queued", 0)


def _moved(counts: dict[str, int], old: str | None, new: str | None, by: int = 1) -> dict[str, int]:
    after = dict(counts)
    if old is not None:
        left = after.get(old, 0) - by
        if left:
            after[old] = left
        else:
            after.pop(old, None)
    if new is not None and by:
        total = after.get(new, 0) + by
        if total:
            after[new] = total
        else:
            after.pop(new, None)
    return after


def _counted(recent: tuple[tuple[int, int], ...], second: int) -> tuple[tuple[int, int], ...]:
    if recent and recent[-1][0] == second:
        return (*recent[:-1], (second, recent[-1][1] + 1))
    kept = [r for r in recent if second - RATE_WINDOW_S < r[0] < second]
    return (*kept, (second, 1))
