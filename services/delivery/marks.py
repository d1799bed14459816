"""Marks in Redis that narrow the unknown after a kill (STREAMS 28).

One hash per partition and generation of its ownership, `{<stage>:<partition>}:m:<generation>`. Its
field "" says: every call of this generation is marked here. A call's field is "a" from right before
its first byte until its answer ("about"), then the answer; it goes when the outcome is committed.

Beside them `{<stage>:<partition>}:m` holds the first generation since which Redis kept everything.

One process writes the marks of a generation, and keeps them in memory too. When it finds that Redis was
emptied under it, it first makes them anew, of every partition it has; then its calls go on.

Who takes over a partition asks for each call its predecessor left open:
  no field ""   Redis was emptied and the predecessor died before it noticed: nobody knows, the call counts
                as begun; unless an earlier generation is still there: then this one ended before it made
                any call
  no mark       it surely had not begun; the answer "r" (revoked) is set at the same moment, so that a
                predecessor who is still alive somewhere can't begin it any more
  "a"           it may have got through
  an answer     that is what became of it

All operations of one turn of the event loop travel in one round trip, in their order.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from rondo_common import telemetry
from rondo_common.redis_client import RedisError, Wire
from services.delivery.model import Answer, Verdict

log = telemetry.logger(__name__)

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
# The same marks once more, in one step: "" without them would say that no call had begun.
# KEYS: the generation's hash, the first generation. ARGV: KEEP_FIRST_S, generation, then field and value of each
_REMAKE = """
if redis.call('HEXISTS', KEYS[1], '') == 1 then return 0 end
redis.call('HSET', KEYS[1], '', '1')
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[2], 'NX')
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[1]))
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


class NoMarks(Exception):
    """Redis does not answer, or has not the marks of this generation: no call may begin now."""


Leave = asyncio.Future[tuple[bool, bool]]
"""Whether the call may begin, and whether its member's STOP mark was found."""


class _Slice:
    """What one hash is to be told in one go."""

    __slots__ = ("about", "answers", "forget")

    def __init__(self) -> None:
        self.forget: list[str] = []
        self.answers: list[Any] = []
        self.about: list[tuple[str, str | None, Leave]] = []

    def args(self) -> list[Any]:
        fields = [call for call, _, _ in self.about]
        return [len(self.forget), *self.forget, len(self.answers) // 2, *self.answers, *fields]


_Slices = dict[tuple[int, int], _Slice]
"""By partition and generation."""


class Marks:
    """The marks of one worker; all methods are for the event loop of `wire`."""

    def __init__(self, wire: Wire, stage: str):
        self._wire = wire
        self._turn = asyncio.Lock()
        self._stage = stage
        self._slices: _Slices = {}
        self._flushing: asyncio.Task[None] | None = None
        self._own: dict[int, tuple[int, dict[str, Any]]] = {}
        """By partition: its generation here, and the marks of it that Redis should have."""

    def _keys(self, partition: int, gen: int) -> tuple[str, str]:
        first = f"{{{self._stage}:{partition}}}:m"
        return f"{first}:{gen}", first

    async def begin(self, partition: int, gen: int) -> None:
        """From now on every call of `gen` is marked. NoMarks when Redis does not answer."""
        if self._known(partition, gen) is None:
            self._own[partition] = gen, {}
        keys = (*self._keys(partition, gen), self._keys(partition, gen - 1)[0])
        try:
            await self._run([("EVAL", _BEGIN, 3, *keys, KEEP_FIRST_S, KEEP_OLD_S, gen)])
        except (RedisError, OSError) as e:
            raise NoMarks(str(e)) from e

    def about(self, partition: int, gen: int, call: str, stop: str | None) -> Leave:
        """Mark that the call's bytes are about to leave, and look for the member's STOP mark `stop`. The
        future fails with NoMarks: it must not begin then."""
        mine: Leave = asyncio.get_running_loop().create_future()
        self._slice(partition, gen).about.append((call, stop, mine))
        self._soon()
        return mine

    def answered(self, partition: int, gen: int, call: str, answer: Answer) -> None:
        """Note the answer of a call. Best effort: without it the call counts as begun."""
        mark = msgspec.json.encode(answer)
        known = self._known(partition, gen)
        if known is not None:
            known[call] = mark
        self._slice(partition, gen).answers += (call, mark)
        self._soon()

    def forget(self, partition: int, gen: int, call: str) -> None:
        """The outcome is committed. Travels with the next work for the hash."""
        known = self._known(partition, gen)
        if known is not None:
            known.pop(call, None)
        self._slice(partition, gen).forget.append(call)
        self._soon()

    async def check(self, partition: int, gen: int, call: str) -> Answer:
        """What became of a predecessor's call: its answer, UNKNOWN, or NOT_SENT; after NOT_SENT it can't
        begin any more. NoMarks when Redis does not answer."""
        try:
            keys = self._keys(partition, gen)
            (mark,) = await self._run([("EVAL", _CHECK, 2, *keys, call, gen, KEEP_OLD_S)])
        except (RedisError, OSError) as e:
            raise NoMarks(str(e)) from e
        match mark:
            case b"r":
                return Answer(Verdict.NOT_SENT, reason="worker_lost")
            case b"a" | b"lost":
                return Answer(Verdict.UNKNOWN, reason="worker_lost")
        return _read_answer(mark)

    async def _run(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        async with self._turn:
            return await self._wire.run(commands)

    def _known(self, partition: int, gen: int) -> dict[str, Any] | None:
        """What Redis should have of a generation; None of one that is not this process's present one."""
        own = self._own.get(partition)
        return own[1] if own is not None and own[0] == gen else None

    def _slice(self, partition: int, gen: int) -> _Slice:
        return self._slices.setdefault((partition, gen), _Slice())

    def _soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        """Send what has gathered, until nothing has."""
        try:
            while self._slices:
                slices, self._slices = self._slices, {}
                lost = await self._round(slices)
                if lost:
                    await self._remake(lost)
        finally:
            self._flushing = None

    async def _round(self, slices: _Slices) -> _Slices:
        """One round trip. The slices whose generation Redis does not know any more come back, undone."""
        stops = list({stop: None for work in slices.values() for _, stop, _ in work.about if stop is not None})
        try:
            commands: list[tuple[Any, ...]] = [
                ("EVAL", _WORK, 2, *self._keys(*place), KEEP_FIRST_S, *work.args()) for place, work in slices.items()
            ]
            if stops:
                commands.append(("MGET", *stops))
            found = await self._run(commands)
        except BaseException as e:  # nobody may be left waiting
            _fail(slices.values(), NoMarks(str(e)))
            if isinstance(e, (RedisError, OSError)):
                return {}
            raise
        stopped = {stop for stop, mark in zip(stops, found[-1], strict=True) if mark is not None} if stops else set()
        lost = {}
        for (place, work), out in zip(slices.items(), found[: len(slices)], strict=True):
            known = self._known(*place)
            if not out[0]:
                if known is not None:
                    lost[place] = work
                else:
                    _fail((work,), NoMarks("a generation that is not this worker's"))
                continue
            for (call, stop, future), may in zip(work.about, out[1:], strict=True):
                if may and known is not None:
                    known[call] = "a"
                if not future.done():
                    future.set_result((bool(may), stop in stopped))
        return lost

    async def _remake(self, lost: _Slices) -> None:
        """Redis was emptied: give it back the marks of all partitions, then do what could not be done."""
        log.warning("marks made anew: Redis had lost those of %d partitions", len(lost))
        try:
            await self._run(
                [
                    ("EVAL", _REMAKE, 2, *self._keys(partition, gen), KEEP_FIRST_S, gen, *chain(*known.items()))
                    for partition, (gen, known) in self._own.items()
                ]
            )
        except BaseException as e:
            _fail(lost.values(), NoMarks(str(e)))
            if isinstance(e, (RedisError, OSError)):
                return
            raise
        again = await self._round(lost)
        _fail(again.values(), NoMarks("Redis was emptied again"))


def _fail(slices: Iterable[_Slice], error: Exception) -> None:
    for work in slices:
        for _, _, future in work.about:
            if not future.done():
                future.set_exception(error)


def stop_key(workspace: str, channel: str, address_id: str) -> str:
    """Key that ingestion sets when a STOP is accepted (STREAMS 27)."""
    return f"stop:{workspace}:{channel}:{address_id}"
