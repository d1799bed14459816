"""The calls that wait for a place, and the places. Lives on one event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from rondo_common.topics import LANES

_RANK = {lane: rank for rank, lane in enumerate(LANES)}


class Line:
    """Calls waiting, higher lanes first, in order within a lane."""

    def __init__(self) -> None:
        self._lanes: list[deque[Any]] = [deque() for _ in range(len(_RANK) + 1)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, lane: str, item: Any) -> None:
        self._lanes[_RANK.get(lane, -1)].append(item)
        self._count += 1

    def put_back(self, lane: str, item: Any) -> None:
        """Before all others of its lane: it was taken, and did not begin."""
        self._lanes[_RANK.get(lane, -1)].appendleft(item)
        self._count += 1

    def take(self) -> Any:
        """The first in line; IndexError when nobody waits."""
        for lane in self._lanes:
            if lane:
                self._count -= 1
                return lane.popleft()
        raise IndexError("nobody waits")


class Places:
    """Room for `usual` calls at a time. One that takes longer than `slow_after` seconds gives its place
    to another, so that a few slow addresses stop nobody; at most `most` calls at a time in all.
    `freed` is called when room may have come."""

    def __init__(self, usual: int, most: int, slow_after: float, freed: Callable[[], None]):
        self._usual = usual
        self._most = max(most, usual)
        self._slow_after = slow_after
        self._freed = freed
        self._taken: set[Place] = set()
        self._quick = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        return len(self._taken)

    def free(self) -> int:
        return min(self._usual - self._quick, self._most - len(self._taken))

    def enter(self) -> "Place":
        """Take a place; `leave` it at the end."""
        place = Place(self)
        self._taken.add(place)
        self._quick += 1
        place.renew()
        if self._timer is None:
            self._look_later()
        return place

    def _look_later(self) -> None:
        # one timer for all: a timer for each call costs more than the call's own bookkeeping
        self._timer = asyncio.get_running_loop().call_later(self._slow_after / 4, self._look)

    def _look(self) -> None:
        self._timer = None
        since = asyncio.get_running_loop().time() - self._slow_after
        slow = [p for p in self._taken if p.quick and p.began <= since]
        for place in slow:
            place.quick = False
            self._quick -= 1
            place.on_slow()
        if slow:
            self._freed()
        if self._taken:
            self._look_later()


class Place:
    """Room for one call at a time, one after the other: `renew` begins the next. `quick` until one turns
    out to be slow; `on_slow` is called then."""

    __slots__ = ("_loop", "_places", "began", "on_slow", "quick")

    def __init__(self, places: Places):
        self._places = places
        self._loop = asyncio.get_running_loop()
        self.quick = True
        self.began = 0.0
        self.on_slow: Callable[[], None] = lambda: None

    def renew(self) -> None:
        self.began = self._loop.time()

    def leave(self) -> None:
        self._places._taken.discard(self)
        if self.quick:
            self._places._quick -= 1
        self._places._freed()
