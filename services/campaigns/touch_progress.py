"""How far one touch has come. Pure.

What is known of a touch arrives on two topics whose order between each other is not defined, and
may arrive again. So the state is the highest report so far under one total order: by attempt, then
by how much the report says, then by its reason. A maximum does not depend on order or repeats.

    rank  report                                       bucket
    0     touch written                                pending
    1     decision defer                               deferred (campaign_paused: queued, WIRE 7)
    2     decision send                                queued
    3     decision skip                                skipped
    4     delivery returned (will be decided again)    queued
    5     delivery unknown                             unknown
    6     delivery returned, settling an unknown       queued
    7     delivery cancelled                           skipped campaign_cancelled
    8     delivery rejected                            failed; skipped for a reason of the last gate
    9     delivery accepted                            sent

A bounce after the provider accepted changes no bucket (sent = the provider accepted, WIRE 7): it is
counted as engagement.

Of a broadcast's touch nothing is kept while it goes the usual way: it is pending because the share
counts it, and the `send` of its first decision only moves one from pending to queued. Its state begins with
the first other report; `came_from` says out of which bucket that one takes it.
"""

from typing import NamedTuple

BUCKETS = ("pending", "deferred", "queued", "sent", "skipped", "failed", "unknown")
OPEN = frozenset(("pending", "deferred", "queued"))
"""Buckets a finished run has none in."""
WITH_REASONS = frozenset(("deferred", "skipped", "failed", "unknown"))
PAUSED = "campaign_paused"
CANCELLED = "campaign_cancelled"

LAST_GATE = frozenset(
    (
        *("consent_missing", "consent_denied", "suppressed_bounce", "suppressed_complaint", "suppressed_manual"),
        *("merged", "erased", "no_address", "expired", "template_abort"),
    )
)
"""Reasons (WIRE 8) for which delivery itself did not ask the provider: the touch was skipped, it did not
fail."""


_FIRST_DELIVERY = 4
"""Rank from which on reports are delivery's."""


class Report(NamedTuple):
    """One report about a touch. Compares as the order above; `reason` is "" for buckets without."""

    attempt: int
    rank: int
    reason: str
    bucket: str


WRITTEN = Report(0, 0, "", "pending")


def came_from(report: Report) -> str:
    """Bucket in which a broadcast's touch is counted that nothing is kept of, when `report` comes. Each topic
    is in order for itself: delivery's word on the first attempt, or a second decision that follows no
    deferral, means that the first decision was `send`, which counts it as queued whenever it is read. A
    delivery of a later attempt means a deferral that is not read yet, and will change nothing when it is."""
    by_delivery = report.rank >= _FIRST_DELIVERY
    return "queued" if by_delivery == (report.attempt == 1) else "pending"


def decided(attempt: int, verdict: str, reason: str | None) -> Report:
    """Report of a decision. ValueError for an unknown verdict."""
    match verdict:
        case "defer" if reason == PAUSED:
            return Report(attempt, 1, "", "queued")
        case "defer":
            return Report(attempt, 1, reason or "deferred", "deferred")
        case "send":
            return Report(attempt, 2, "", "queued")
        case "skip":
            return Report(attempt, 3, reason or "skipped", "skipped")
    raise ValueError(f"unknown verdict {verdict!r}")


def delivered(attempt: int, status: str, reason: str | None, settled: bool) -> Report | None:
    """Report of a delivery; None for a callback's status, which is engagement."""
    match status:
        case "accepted":
            return Report(attempt, 9, "", "sent")
        case "rejected" if reason in LAST_GATE:
            return Report(attempt, 8, reason or "", "skipped")
        case "rejected":
            return Report(attempt, 8, reason or "rejected", "failed")
        case "cancelled":
            return Report(attempt, 7, CANCELLED, "skipped")
        case "returned":
            return Report(attempt, 6 if settled else 4, "", "queued")
        case "unknown":
            return Report(attempt, 5, reason or "outcome_unknown", "unknown")
    return None


ENGAGEMENT = (
    "delivered",
    "bounced",
    "complained",
    "opened_human",
    "opened_machine",
    "clicked_human",
    "clicked_machine",
    "unsubscribed",
)
"""Keys of a run's engagement, in bit order of `TouchState.seen`."""
_BIT = {name: 1 << i for i, name in enumerate(ENGAGEMENT)}


def engagement_bit(name: str) -> int:
    """Bit of an engagement key, 0 for what is not counted."""
    return _BIT.get(name, 0)


def engagement_name(kind: str, actor: str) -> str:
    """Key of an engagement record: opened and clicked by actor, the others by kind."""
    return f"{kind}_{'machine' if actor == 'machine' else 'human'}" if kind in ("opened", "clicked") else kind
