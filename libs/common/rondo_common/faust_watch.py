"""Faust's watchdog: a worker that has work and does none is ended, so that it is started again.

After a rebalance or a broker's outage Faust may stand still without an error (faust-streaming#523, #532,
#602). Nobody inside would notice; from outside it shows: records lie before the log's end and the
committed offset stays where it is.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from rondo_common import telemetry

STUCK_S = 60.0
"""Longer than a handler's own tries (about 25 s) and a broker's restart."""
LOOK_S = 2.0

log = telemetry.logger(__name__)

Positions = Mapping[Any, tuple[int, int]]
"""Partition to (committed offset, end of the log)."""


class Stuck:
    """Which partition stands still. Pure: time comes in."""

    def __init__(self, seconds: float = STUCK_S):
        self._seconds = seconds
        self._since: dict[Any, tuple[int, float]] = {}

    def look(self, positions: Positions, now: float) -> Any | None:
        """The first partition with work whose committed offset has not moved for `seconds`. Partitions that
        are gone are forgotten: another worker has them."""
        self._since = {tp: seen for tp, seen in self._since.items() if tp in positions}
        for tp, (committed, end) in positions.items():
            known = self._since.get(tp)
            if committed >= end or known is None or known[0] != committed:
                self._since[tp] = (committed, now)
            elif now - known[1] >= self._seconds:
                return tp
        return None


def positions(consumer: Any) -> dict[Any, tuple[int, int]]:
    """Where a Faust consumer stands. A partition of which nothing was committed or delivered yet is left
    out: whether it has records at all, only the broker knows."""
    found = {}
    for tp in consumer.assignment():
        committed = consumer._committed_offset.get(tp) or consumer._first.get(tp)
        end = consumer.highwater(tp)
        if committed is not None and end is not None:
            found[tp] = (committed, end)
    return found


async def watch(
    consumer: Callable[[], Any],
    seconds: float = STUCK_S,
    every: float = LOOK_S,
    end: Callable[[int], None] = os._exit,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Look until cancelled; `end(1)` when a partition stands still. `consumer` gives Faust's, which is made
    anew when Faust restarts it."""
    stuck = Stuck(seconds)
    while True:
        await asyncio.sleep(every)
        tp = stuck.look(positions(consumer()), clock())
        if tp is not None:
            log.error("Faust stands still with work to do; ending", partition=f"{tp.topic}:{tp.partition}", seconds=seconds)  # fmt: skip
            end(1)
            return
