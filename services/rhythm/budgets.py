"""Budgets: rolling windows over a member's ledger. Pure.

A budget passes at t when the weights of its entries in (t - per, t], plus the own weight, are at most
the limit. Entries later than t count too: the clocks of two workers may differ a little, and
counting is the safe side.
"""

from collections.abc import Sequence
from math import fsum
from typing import NamedTuple

from services.rhythm.model import Spent
from services.rhythm.policies import Budget, plain_number


class Use(NamedTuple):
    """How a budget stands at an instant. `passes_at`: earliest instant (ms) from then on at which the
    message fits, None when its own weight is above the limit. `counted`: touch ids of the entries,
    oldest first."""

    used: float
    weight: float
    passes_at: int | None
    counted: tuple[str, ...]


def use(budget: Budget, ledger: Sequence[Spent], channel: str, t: int) -> Use:
    """How `budget` stands at `t` for one more message on `channel`."""
    weight = budget.weight(channel)
    after = t - budget.per
    entries = sorted(
        (e.at, budget.weight(e.channel), e.touch_id)
        for e in ledger
        if e.at > after and budget.covers(e.channel, e.topic)
    )
    used = plain_number(fsum(w for _, w, _ in entries))
    counted = tuple(id for _, _, id in entries)
    if weight > budget.limit:
        return Use(used, weight, None, counted)
    passes_at = t
    for i, (at, _, _) in enumerate(entries):  # the oldest leaves the window first, at + per
        if fsum(w for _, w, _ in entries[i:]) + weight <= budget.limit:
            break
        passes_at = at + budget.per
    return Use(used, weight, passes_at, counted)


def gap_passes_at(budget: Budget, ledger: Sequence[Spent], t: int) -> tuple[int, int | None]:
    """Earliest instant from `t` on at which the smallest gap since the last counted message is over, and
    the instant of that message."""
    last = max((e.at for e in ledger if budget.covers(e.channel, e.topic)), default=None)
    if last is None:
        return t, None
    return max(t, last + budget.min_gap), last


def pruned(ledger: Sequence[Spent], t: int, keep: int) -> tuple[Spent, ...]:
    """The ledger without what left a window of `keep` ms before `t`."""
    first = t - keep
    return tuple([e for e in ledger if e.at > first])
