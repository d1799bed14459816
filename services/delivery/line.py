"""The calls that wait for a place, and the places. Lives on one event loop."""

import asyncio
import heapq
from itertools import count
from typing import Any

from rondo_common.topics import LANES

_RANK = {lane: rank for rank, lane in enumerate(LANES)}


class Line:
    """Calls waiting, higher lanes first, in order within a lane."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Any]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, lane: str, item: Any) -> None:
        heapq.heappush(self._heap, (_RANK.get(lane, len(_RANK)), next(self._order), item))

    def take(self) -> Any:
        """The first in line; IndexError when nobody waits."""
        return heapq.heappop(self._heap)[2]


class Places:
    """Room for `usual` calls at a time. One that takes longer than `slow_after` seconds gives its place
    to another, so that a few slow addresses stop nobody; at most `most` calls at a time in all.
    `freed` is called when room may have come."""

    def __init__(self, usual: int, most: int, slow_after: float, freed: Any):
        self._usual = usual
        self._most = max(most, usual)
        self._slow_after = slow_after
        self._freed = freed
        self._quick = 0
        self.open = 0

    def free(self) -> int:
        return min(self._usual - self._quick, self._most - self.open)

    def enter(self) -> "Place":
        """Take a place; `leave` it at the end."""
        self._quick += 1
        self.open += 1
        return Place(self)


class Place:
    """One call's place."""

    __slots__ = ("_places", "_quick", "_timer")

    def __init__(self, places: Places):
        self._places = places
        self._quick = True
        self._timer = asyncio.get_running_loop().call_later(places._slow_after, self._slow)

    def _slow(self) -> None:
        self._quick = False
        self._places._quick -= 1
        self._places._freed()

    def leave(self) -> None:
        self._timer.cancel()
        self._places.open -= 1
        if self._quick:
            self._places._quick -= 1
        self._places._freed()
