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

All that is to be said at a time travels in one round trip: what to forget, then answers, then calls about to begin.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

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
# fields; how many answers, twice that of field and value; then fields to mark.
# Answer: {1 or 0 whether the marks are complete, then 1 (go) or 0 (revoked) for each field to mark}
_WORK = """
local key, at = KEYS[1], 3
local function each(n, size, name)
  local last = at + n - 1
  while at <= last do
    local to = math.min(at + size - 1, last)
    redis.call(name, key, unpack(ARGV, at, to))
    at = to + 1
  end
end
each(tonumber(ARGV[2]), 1000, 'HDEL')
if redis.call('HEXISTS', key, '') == 0 then return {0} end
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[1]))
at = at + 1
each(2 * tonumber(ARGV[at - 1]), 1000, 'HSET')
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


class About(NamedTuple):
    """A call whose bytes are about to leave; `stop` is the key of its member's STOP mark."""

    partition: int
    gen: int
    call: str
    stop: str | None


class Leave(NamedTuple):
    """Whether the call may begin, and whether its member's STOP mark was found."""

    unrevoked: bool
    stopped: bool


class _Slice:
    """What one hash is to be told in one go. `about`: places in the round's list, and the calls there."""

    __slots__ = ("about", "answers", "forget", "places")

    def __init__(self) -> None:
        self.forget: list[str] = []
        self.answers: list[Any] = []
        self.about: list[str] = []
        self.places: list[int] = []

    def args(self) -> list[Any]:
        return [len(self.forget), *self.forget, len(self.answers) // 2, *self.answers, *self.about]


_Slices = dict[tuple[int, int], _Slice]
"""By partition and generation."""


class Marks:
    """The marks of one worker; all methods are for the event loop of `wire`."""

    def __init__(self, wire: Wire, stage: str):
        self._wire = wire
        self._turn = asyncio.Lock()
        self._stage = stage
        self._slices: _Slices = {}
        self._own: dict[int, tuple[int, dict[str, Any]]] = {}
        """By partition: its generation here, and the marks of it that Redis should have."""
        self.owes = False
        """Whether something was noted that no round has told yet."""

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

    def answered(self, partition: int, gen: int, call: str, answer: Answer) -> None:
        """Note the answer of a call. Best effort: without it the call counts as begun."""
        mark = msgspec.json.encode(answer)
        known = self._known(partition, gen)
        if known is not None:
            known[call] = mark
        self._slice(partition, gen).answers += (call, mark)
        self.owes = True

    def forget(self, partition: int, gen: int, calls: Sequence[str]) -> None:
        """Their outcomes are committed."""
        known = self._known(partition, gen)
        if known is not None:
            for call in calls:
                known.pop(call, None)
        self._slice(partition, gen).forget += calls
        self.owes = True

    async def round(self, abouts: Sequence[About]) -> list[Leave | NoMarks]:
        """Mark that the bytes of these calls are about to leave, and look for their members' STOP marks; all
        that was noted before travels along, ahead of it. One answer each; NoMarks: it must not begin."""
        slices, self._slices, self.owes = self._slices, {}, False
        for place, (partition, gen, call, _) in enumerate(abouts):
            work = slices.get((partition, gen))
            if work is None:
                work = slices[partition, gen] = _Slice()
            work.about.append(call)
            work.places.append(place)
        found: list[Leave | NoMarks] = [_NOT_ASKED] * len(abouts)
        try:
            lost = await self._round(slices, abouts, found)
            if lost:
                await self._remake()
                if await self._round(lost, abouts, found):
                    raise NoMarks("Redis was emptied again")
        except (RedisError, OSError, NoMarks) as e:
            why = NoMarks(str(e))
            return [why if f is _NOT_ASKED else f for f in found]
        return found

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

    async def _round(self, slices: _Slices, abouts: Sequence[About], found: list[Leave | NoMarks]) -> _Slices:
        """One round trip. The slices whose generation Redis does not know any more come back, undone."""
        stops = list({a.stop: None for w in slices.values() for a in (abouts[p] for p in w.places) if a.stop})
        commands: list[tuple[Any, ...]] = [
            ("EVAL", _WORK, 2, *self._keys(*place), KEEP_FIRST_S, *work.args()) for place, work in slices.items()
        ]
        if stops:
            commands.append(("MGET", *stops))
        replies = await self._run(commands)
        stopped = {s for s, mark in zip(stops, replies[-1], strict=True) if mark is not None} if stops else ()
        lost = {}
        for (place, work), out in zip(slices.items(), replies[: len(slices)], strict=True):
            known = self._known(*place)
            if not out[0]:
                if known is not None:
                    lost[place] = work
                else:
                    for at in work.places:
                        found[at] = NoMarks("a generation that is not this worker's")
                continue
            for at, call, may in zip(work.places, work.about, out[1:], strict=True):
                if may and known is not None:
                    known[call] = "a"
                found[at] = Leave(bool(may), abouts[at].stop in stopped) if stopped or not may else _GO
        return lost

    async def _remake(self) -> None:
        """Redis was emptied: give it back the marks of all partitions."""
        log.warning("marks made anew: Redis had lost them")
        await self._run(
            [
                ("EVAL", _REMAKE, 2, *self._keys(partition, gen), KEEP_FIRST_S, gen, *chain(*known.items()))
                for partition, (gen, known) in self._own.items()
            ]
        )


_GO = Leave(True, False)
_NOT_ASKED = NoMarks("not asked")


def stop_key(workspace: str, channel: str, address_id: str) -> str:
    """Key that ingestion sets when a STOP is accepted (STREAMS 27)."""
    return f"stop:{workspace}:{channel}:{address_id}"
