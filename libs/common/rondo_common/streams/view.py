"""Reading a stage's states from other threads or processes: query servers, the test clock.

    view = AsyncStateView(redis_client.connect_async(settings.redis), "profiles", types, settings.partitions)
    member = await view.get(member_key, f"m:{member_key}")       # None: there is none

Every value is read together with the partition's position. Without one, or during a restore, nobody
knows what is there: `Unavailable`, never "not found" (STREAMS 7).
"""

from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio

from rondo_common.partition import PARTITIONS, partition_of
from rondo_common.streams.codec import Codec
from rondo_common.streams.store import POS, names, prefix_range


class Unavailable(Exception):
    """The partition's view is missing or being restored, or Redis does not answer. Try again."""


_SCAN = """
local pos = redis.call('HGET', KEYS[1], '~~pos')
local keys = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local values = {}
if #keys > 0 then values = redis.call('HMGET', KEYS[1], unpack(keys)) end
return {pos, keys, values}
"""
_NEXT = """
local pos = redis.call('HGET', KEYS[1], '~~pos')
return {pos, redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')}
"""
MOST = 1_000


class _View:
    """What both views share: names, checks, decoding."""

    def __init__(self, stage: str, types: dict[str, type], partitions: int = PARTITIONS):
        self._stage = stage
        self._codec = Codec(types)
        self.partitions = partitions

    def partition(self, partition_key: str) -> int:
        """The partition whose states belong to a Kafka key."""
        return partition_of(partition_key, self.partitions)

    def _check(self, partition: int, position: bytes | None) -> None:
        if position is None or not position.isdigit():
            what = "is missing" if position is None else "is being restored"
            raise Unavailable(f"the view of {self._stage} partition {partition} {what}")

    def _values(self, partition: int, keys: Sequence[str], answer: Sequence[bytes | None]) -> list[Any]:
        self._check(partition, answer[0])
        pairs = zip(keys, answer[1:], strict=True)
        return [None if raw is None else self._codec.decode(key, raw) for key, raw in pairs]

    def _page(self, partition: int, answer: Sequence[Any], limit: int) -> tuple[list[tuple[str, Any]], str | None]:
        position, raw_keys, values = answer
        self._check(partition, position)
        keys = [k.decode() for k in raw_keys]
        page = [(k, self._codec.decode(k, raw)) for k, raw in zip(keys, values, strict=True) if raw is not None]
        return page, keys[-1] if len(keys) == limit else None

    def _due(self, partition: int, answer: Sequence[Any]) -> int | None:
        position, first = answer
        self._check(partition, position)
        return int(float(first[1])) if first else None

    def _unavailable(self, e: Exception) -> Unavailable:
        return Unavailable(f"Redis does not answer: {e}")


_ERRORS = (redis.RedisError, OSError)


class StateView(_View):
    """For threads."""

    def __init__(self, client: redis.Redis, stage: str, types: dict[str, type], partitions: int = PARTITIONS):
        super().__init__(stage, types, partitions)
        self._redis = client

    def get(self, partition_key: str, state_key: str) -> Any:
        """The state `state_key` in the partition of `partition_key`; None when there is none."""
        return self.get_many(self.partition(partition_key), [state_key])[0]

    def get_many(self, partition: int, state_keys: Sequence[str]) -> list[Any]:
        """Several states of one partition, read at one moment, in the order asked."""
        try:
            answer = self._redis.hmget(names(self._stage, partition).states, POS, *state_keys)
        except _ERRORS as e:
            raise self._unavailable(e) from e
        return self._values(partition, state_keys, answer)

    def scan(
        self, prefix: str, partition: int, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[tuple[str, Any]], str | None]:
        """A page of the states whose key starts with `prefix`, in key order, and the cursor of the next
        (None: that was all)."""
        at = names(self._stage, partition)
        limit = min(limit, MOST)
        try:
            answer = self._redis.eval(_SCAN, 2, at.states, at.index, *prefix_range(prefix, cursor or ""), limit)
        except _ERRORS as e:
            raise self._unavailable(e) from e
        return self._page(partition, answer, limit)

    def next_due(self) -> int | None:
        """When the stage's earliest timer comes due (ms) over all partitions; None without any."""
        dues = []
        for partition in range(self.partitions):
            at = names(self._stage, partition)
            try:
                answer = self._redis.eval(_NEXT, 2, at.states, at.timers)
            except _ERRORS as e:
                raise self._unavailable(e) from e
            dues.append(self._due(partition, answer))
        return min((due for due in dues if due is not None), default=None)


class AsyncStateView(_View):
    """For event loops; the same methods."""

    def __init__(self, client: redis.asyncio.Redis, stage: str, types: dict[str, type], partitions: int = PARTITIONS):
        super().__init__(stage, types, partitions)
        self._redis = client

    async def get(self, partition_key: str, state_key: str) -> Any:
        """See StateView."""
        return (await self.get_many(self.partition(partition_key), [state_key]))[0]

    async def get_many(self, partition: int, state_keys: Sequence[str]) -> list[Any]:
        """See StateView."""
        try:
            answer = await self._redis.hmget(names(self._stage, partition).states, POS, *state_keys)
        except _ERRORS as e:
            raise self._unavailable(e) from e
        return self._values(partition, state_keys, answer)

    async def scan(
        self, prefix: str, partition: int, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[tuple[str, Any]], str | None]:
        """See StateView."""
        at = names(self._stage, partition)
        limit = min(limit, MOST)
        try:
            answer = await self._redis.eval(_SCAN, 2, at.states, at.index, *prefix_range(prefix, cursor or ""), limit)
        except _ERRORS as e:
            raise self._unavailable(e) from e
        return self._page(partition, answer, limit)

    async def next_due(self) -> int | None:
        """See StateView."""
        dues = []
        for partition in range(self.partitions):
            at = names(self._stage, partition)
            try:
                answer = await self._redis.eval(_NEXT, 2, at.states, at.timers)
            except _ERRORS as e:
                raise self._unavailable(e) from e
            dues.append(self._due(partition, answer))
        return min((due for due in dues if due is not None), default=None)
