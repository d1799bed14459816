"""Which timer fires next. Pure.

A partition's timers fire in order of their due time, over all owners: an owner whose timer sets
the next one in its chain takes its turn again by that one's due time. Two with the same due time
fire in order of name, then owner, so any replay has the same order.
"""

import heapq
from collections.abc import Callable, Iterable

from rondo_common.streams.codec import Timers


def first_due(timers: Timers) -> tuple[int, str]:
    """(due, name) of the timer that fires first. `timers` is not empty."""
    return min((due, name) for name, (due, _) in timers.items())


class Agenda:
    """The timers of some owners that are due at or before `until`, in firing order. The timers may
    change while it is used; each entry is looked up again before it is given out."""

    def __init__(self, timers: Callable[[str], Timers | None], owners: Iterable[str], until: int):
        self._timers = timers
        self._until = until
        self._heap: list[tuple[int, str, str]] = []
        self.held = False
        """Whether a timer that was given out did not come back with `again`: it waits."""
        self._out: str | None = None
        for owner in owners:
            self._push(owner)

    def _push(self, owner: str) -> None:
        timers = self._timers(owner)
        if timers:
            due, name = first_due(timers)
            if due <= self._until:
                heapq.heappush(self._heap, (due, name, owner))

    def next(self) -> tuple[int, str, str] | None:
        """(due, name, owner) of the next timer to fire, None when none is left."""
        if self._out is not None:
            self.held, self._out = True, None
        while self._heap:
            entry = heapq.heappop(self._heap)
            timers = self._timers(entry[2])
            if timers and first_due(timers) == entry[:2]:
                self._out = entry[2]
                return entry
            self._push(entry[2])
        return None

    def again(self, owner: str) -> None:
        """The timer given out last has fired: its owner's next one takes its place."""
        self._out = None
        self._push(owner)
