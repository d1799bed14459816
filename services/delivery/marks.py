"""Marks in Redis that narrow the unknown after a kill (STREAMS 28).

One hash per partition and generation of its ownership, `{<stage>:<partition>}:m:<generation>`. Its
field "" says: every call of this generation is marked here. A call's field is "a" from right before
its first byte until its answer ("about"), then the answer; it goes when the outcome is committed.

Beside them `{<stage>:<partition>}:m` holds the first generation since which Redis kept everything.

Who takes over a partition asks for each call its predecessor left open:
  no field ""   Redis was emptied: nobody knows, the call counts as begun; unless an earlier generation
                is still there: then this one ended before it made any call
  no mark       it surely had not begun; the answer "r" (revoked) is set at the same moment, so that a
                predecessor who is still alive somewhere can't begin it any more
  "a"           it may have got through
  an answer     that is what became of it

All operations of one turn of the event loop travel in one round trip, in their order.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from rondo_common.redis_client import RedisError
from services.delivery.model import Answer, Verdict

KEEP_OLD_S = 7 * 86_400
"""How long the marks of an earlier generation are kept after a new one began."""
KEEP_FIRST_S = 86_400
"""How long it is believed, after the last call, that Redis kept everything; shorter than the above."""

# KEYS: the generation's hash, the first generation. ARGV: KEEP_FIRST_S; how many to forget, their
# fields; how many answers, field and value each; then fields to mark.
# Answer: {1 or 0 whether the marks are complete, then 1 (go) or 0 (revoked) for each field to mark}
_WORK = """
local key, at = KEYS[1], 3
for i = 1, tonumber(ARGV[2]) do redis.call('HDEL', key, ARGV[at]); at = at + 1 end
if redis.call('HEXISTS', key, '') == 0 then return {0} end
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[1]))
local answers = tonumber(ARGV[at]); at = at + 1
for i = 1, answers do redis.call('HSET', key, ARGV[at], ARGV[at + 1]); at = at + 2 end
local out = {1}
for i = at, #ARGV do out[#out + 1] = redis.call('HSETNX', key, ARGV[i], 'a') end
return out
"""
# KEYS: the generation's hash, the first generation, the former generation's hash.
# ARGV: KEEP_FIRST_S, KEEP_OLD_S, generation
_BEGIN = """
redis.call('HSET', KEYS[1], '', '1')
redis.call('SET', KEYS[2], ARGV[3], 'NX')
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[1]))
redis.call('EXPIRE', KEYS[3], tonumber(ARGV[2]))
return 1
"""
# KEYS: the generation's hash, the first generation. ARGV: field, generation, KEEP_OLD_S
_CHECK = """
if redis.call('HEXISTS', KEYS[1], '') == 0 then
  local first = redis.call('GET', KEYS[2])
  if not first or tonumber(first) >= tonumber(ARGV[2]) then return 'lost' end
end
local mark = redis.call('HGET', KEYS[1], ARGV[1])
if not mark then
  redis.call('HSET', KEYS[1], ARGV[1], 'r')
  redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]))
  return 'r'
end
return mark
"""

_read_answer = msgspec.json.Decoder(Answer).decode


class MarksLost(Exception):
    """The generation's marks are gone: its calls must not begin under it."""


class NoMarks(Exception):
    """Redis does not answer: no call may begin now."""


class _Slice:
    """What one hash is to be told in one go."""

    __slots__ = ("about", "answers", "forget")

    def __init__(self) -> None:
        self.forget: list[str] = []
        self.answers: list[Any] = []
        self.about: list[tuple[str, asyncio.Future[bool]]] = []

    def args(self) -> list[Any]:
        fields = [call for call, _ in self.about]
        return [len(self.forget), *self.forget, len(self.answers) // 2, *self.answers, *fields]


class Marks:
    """The marks of one worker. `redis` is an asyncio client; all methods are for its event loop."""

    def __init__(self, redis: Any, stage: str):
        self._redis = redis
        self._stage = stage
        self._slices: dict[tuple[str, str], _Slice] = {}
        self._stops: dict[str, list[asyncio.Future[bool]]] = {}
        self._flushing: asyncio.Task[None] | None = None

    def _keys(self, partition: int, gen: int) -> tuple[str, str]:
        first = f"{{{self._stage}:{partition}}}:m"
        return f"{first}:{gen}", first

    async def begin(self, partition: int, gen: int) -> None:
        """From now on every call of `gen` is marked. NoMarks when Redis does not answer."""
        keys = (*self._keys(partition, gen), self._keys(partition, gen - 1)[0])
        try:
            await self._redis.eval(_BEGIN, 3, *keys, KEEP_FIRST_S, KEEP_OLD_S, gen)
        except (RedisError, OSError) as e:
            raise NoMarks(str(e)) from e

    async def about(self, partition: int, gen: int, call: str, stop: str | None) -> tuple[bool, bool]:
        """Mark that the call's bytes are about to leave. (may it begin, was the member's STOP mark `stop`
        found). MarksLost, NoMarks: it must not begin."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[bool] = loop.create_future()
        self._slice(partition, gen).about.append((call, mine))
        if stop is None:
            self._soon()
            return await mine, False
        stopped: asyncio.Future[bool] = loop.create_future()
        self._stops.setdefault(stop, []).append(stopped)
        self._soon()
        await asyncio.wait((mine, stopped))
        if (error := stopped.exception()) is not None:
            mine.exception()
            raise error
        return mine.result(), stopped.result()

    def answered(self, partition: int, gen: int, call: str, answer: Answer) -> None:
        """Note the answer of a call. Best effort: without it the call counts as begun."""
        self._slice(partition, gen).answers += (call, msgspec.json.encode(answer))
        self._soon()

    def forget(self, partition: int, gen: int, call: str) -> None:
        """The outcome is committed. Travels with the next work for the hash."""
        self._slice(partition, gen).forget.append(call)
        self._soon()

    async def check(self, partition: int, gen: int, call: str) -> Answer:
        """What became of a predecessor's call: its answer, UNKNOWN, or NOT_SENT; after NOT_SENT it can't
        begin any more. NoMarks when Redis does not answer."""
        try:
            mark = await self._redis.eval(_CHECK, 2, *self._keys(partition, gen), call, gen, KEEP_OLD_S)
        except (RedisError, OSError) as e:
            raise NoMarks(str(e)) from e
        match mark:
            case b"r":
                return Answer(Verdict.NOT_SENT, reason="worker_lost")
            case b"a" | b"lost":
                return Answer(Verdict.UNKNOWN, reason="worker_lost")
        return _read_answer(mark)

    def _slice(self, partition: int, gen: int) -> _Slice:
        return self._slices.setdefault(self._keys(partition, gen), _Slice())

    def _soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        """Send what has gathered, until nothing has."""
        try:
            while self._slices or self._stops:
                slices, self._slices = self._slices, {}
                stops, self._stops = self._stops, {}
                await self._round(slices, stops)
        finally:
            self._flushing = None

    async def _round(self, slices: dict[tuple[str, str], _Slice], stops: dict[str, list[asyncio.Future[bool]]]) -> None:
        try:
            pipe = self._redis.pipeline(transaction=False)
            for keys, work in slices.items():
                pipe.eval(_WORK, 2, *keys, KEEP_FIRST_S, *work.args())
            for stop in stops:
                pipe.exists(stop)
            found = await pipe.execute()
        except BaseException as e:  # nobody may be left waiting
            _fail(slices.values(), stops, NoMarks(str(e)))
            if isinstance(e, (RedisError, OSError)):
                return
            raise
        for work, out in zip(slices.values(), found[: len(slices)], strict=True):
            for i, (_, future) in enumerate(work.about):
                if future.done():
                    continue
                if out[0]:
                    future.set_result(bool(out[i + 1]))
                else:
                    future.set_exception(MarksLost())
        for futures, there in zip(stops.values(), found[len(slices) :], strict=True):
            for future in futures:
                if not future.done():
                    future.set_result(bool(there))


def _fail(slices: Any, stops: dict[str, list[asyncio.Future[bool]]], error: Exception) -> None:
    waiting: Sequence[asyncio.Future[bool]] = [
        *(f for work in slices for _, f in work.about),
        *(f for futures in stops.values() for f in futures),
    ]
    for future in waiting:
        if not future.done():
            future.set_exception(error)


def stop_key(workspace: str, channel: str, address_id: str) -> str:
    """Key that ingestion sets when a STOP is accepted (STREAMS 27)."""
    return f"stop:{workspace}:{channel}:{address_id}"
