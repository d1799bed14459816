"""How far the warehouse is behind the log, asked by those who need an answer that is not."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from rondo_common import kafka
from rondo_common.problems import unavailable
from rondo_common.settings import Settings
from services.insights.feed import Feed

_LOOK_S = 0.01


class Lag:
    """Compares the log's ends with what the feed has written."""

    def __init__(self, settings: Settings, feed: Feed):
        self._settings, self._feed = settings, feed
        self._admin: Any = None

    async def wait(self, topics: Sequence[str], most_s: float) -> int:
        """Wait until the tables show all that committed readers could read of `topics` when this was called,
        at most `most_s`; the records still missing. Problem 503 while Kafka does not answer."""
        deadline = time.monotonic() + most_s
        ends = await asyncio.to_thread(self._ends, topics)
        while behind := self._feed.behind(ends):
            if time.monotonic() >= deadline:
                break
            self._feed.hurry()
            await asyncio.sleep(_LOOK_S)
        return behind

    def _ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        try:
            if self._admin is None:
                self._admin = kafka.admin(self._settings.kafka, "insights-lag")
            partitions = [(t, p) for t in topics for p in range(self._settings.partitions)]
            return kafka.end_offsets(self._admin, partitions, committed=True)
        except Exception as e:
            raise unavailable("Kafka", type(e).__name__) from e
