"""The STOP mark: what lets a STOP overtake messages that are already on their way.

`stop:<workspace>:<channel>:<address id>` is set before the provider gets its 2xx; the delivery worker
looks at it right before each call. The consent itself goes the normal way through the log, so the
mark only has to outlive that way: an hour. Redis may be down: then the mark is missing, the log still
has the STOP.
"""

import asyncio
from typing import Protocol

from rondo_common import redis_client, telemetry
from rondo_common.records import Inbound

KEEP_S = 3600
WAIT_S = 0.5
"""Longest wait for Redis before the callback goes on without it."""
_PAUSE_S = 5.0

FAILED = telemetry.counter("rondo_stop_marks_failed_total", "STOP marks that could not be set")
log = telemetry.logger(__name__)


class StopMarks(Protocol):
    """Keeps the marks in step with what members say."""

    async def follow(self, inbound: Inbound) -> None:
        """Set the mark of a STOP, take it away at a START. Never raises, never takes long."""
        ...


def mark_of(workspace: str, channel: str, address_id: str) -> str:
    """The Redis key of a mark."""
    return f"stop:{workspace}:{channel}:{address_id}"


class RedisMarks:
    """Marks in Redis, as far as it answers."""

    def __init__(self, url: str):
        self._redis = redis_client.connect_async(url, connections=4)
        self._down_until = 0.0

    async def follow(self, inbound: Inbound) -> None:
        """See StopMarks."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            FAILED.inc()
            return
        name = mark_of(inbound.workspace, inbound.channel, inbound.address_id)
        try:
            async with asyncio.timeout(WAIT_S):
                if inbound.keyword == "stop":
                    await self._redis.set(name, b"1", ex=KEEP_S)
                else:
                    await self._redis.delete(name)
        except (redis_client.RedisError, OSError, TimeoutError) as e:
            # callbacks in a row must not each wait for a server that is away
            self._down_until = loop.time() + _PAUSE_S
            FAILED.inc()
            log.warning("STOP mark not set", error=str(e))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)
