"""The one place that makes Redis clients. Redis is a view here: never the truth, never an evicting cache.

Only commands of Redis 7.0 are used, so Redis, Valkey and Redis Cluster all serve.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from rondo_common.lean import without

with without("opentelemetry.sdk.metrics"):
    import redis
    import redis.asyncio
    from redis.backoff import ExponentialBackoff
    from redis.maint_notifications import MaintNotificationsConfig
    from redis.retry import Retry

CONNECTIONS = 16
"""Connections of one client; a call beyond them waits for a free one instead of failing."""
WAIT_S = 5.0
SOCKET_S = 5.0

RedisError = redis.RedisError
_QUIET = MaintNotificationsConfig(enabled=False)  # a command of Redis Enterprise that others answer with an error


def connect(url: str, connections: int = CONNECTIONS) -> redis.Redis:
    """A client for threads. Answers are bytes. A connection that broke is tried once again by itself."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=WAIT_S,
        socket_timeout=SOCKET_S,
        socket_connect_timeout=SOCKET_S,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
        maint_notifications_config=_QUIET,
    )
    return redis.Redis(connection_pool=pool)


def connect_async(url: str, connections: int = CONNECTIONS) -> redis.asyncio.Redis:
    """A client for an event loop. Answers are bytes."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=WAIT_S,
        socket_timeout=SOCKET_S,
        socket_connect_timeout=SOCKET_S,
        health_check_interval=30,
        maint_notifications_config=_QUIET,
    )
    return redis.asyncio.Redis(connection_pool=pool)


class Wire:
    """Bursts of commands over one kept connection of an event loop, one burst at a time: one write, and reads
    until all replies are here, where the client's pipeline costs several times that for small bursts. Nothing
    is tried twice: whether a burst was done when its connection broke is not known."""

    def __init__(self, url: str):
        self._pool = connect_async(url, connections=1).connection_pool
        self._connection: Any = None
        self._reader = hiredis.Reader()

    async def run(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies, in order. RedisError or OSError when there are none, or one of them is an error."""
        if not commands:
            return []
        try:
            async with asyncio.timeout(SOCKET_S):
                if self._connection is None:
                    self._connection = self._pool.make_connection()
                    self._reader = hiredis.Reader()
                    await self._connection.connect()
                return await self._exchange(b"".join(map(hiredis.pack_command, commands)), len(commands))
        except BaseException:
            await self.close()
            raise

    async def _exchange(self, burst: bytes, count: int) -> list[Any]:
        # the connection's own streams: what it would do around each reply is done once for all of them
        incoming, reader = self._connection._reader, self._reader
        self._connection._writer.write(burst)
        found: list[Any] = []
        while len(found) < count:
            reply = reader.gets()
            if reply is not False:
                if isinstance(reply, hiredis.HiredisError):
                    raise redis.ResponseError(str(reply))
                found.append(reply)
                continue
            data = await incoming.read(65536)
            if not data:
                raise redis.ConnectionError("closed by Redis")
            reader.feed(data)
        return found

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


class WrongRedis(Exception):
    """The server is configured so that states could vanish one by one."""


def check_noeviction(client: redis.Redis) -> None:
    """WrongRedis unless maxmemory-policy is noeviction (STREAMS 6): a server that evicts would lose
    single states while the position stays. Servers that forbid CONFIG are asked through INFO."""
    policy = client.info("memory").get("maxmemory_policy", "")
    if policy != "noeviction":
        raise WrongRedis(f"Redis has maxmemory-policy {policy or 'unknown'}: set it to noeviction")
