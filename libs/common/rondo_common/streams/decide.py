"""Deciding a batch of one partition: inputs and states in, records and new states out. Pure.

The loop and the tests' in-memory driver share this code, so both mean the same by an outcome, a
timer, a sweep or a dead letter. Nothing here talks to Kafka or Redis; states come through `Fetch`.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from rondo_common.outcomes import (
    CancelTimer,
    DeadLetter,
    Drop,
    Emit,
    Outcome,
    Perform,
    Save,
    SetTimer,
    StartSweep,
    StopSweep,
    Wait,
)
from rondo_common.stage import Input, Record, Result, Results, Stage, SweepEnd, SweepItem, Timer
from rondo_common.streams.codec import SWEEPS, TIMERS, Codec, Sweep, encode
from rondo_common.streams.envelope import Envelope, Headers
from rondo_common.streams.overlay import Fetch, Lost, Memory, Overlay
from rondo_common.streams.plan import Planned, failure, plan
from rondo_common.streams.timers import Agenda, first_due

log = logging.getLogger("rondo.streams")

STUCK_TIMER = 1000
"""Firings of one owner's timers without progress in time after which they count as an endless loop."""


class Out(msgspec.Struct, frozen=True, gc=False):
    """A record to write."""

    emit: Emit
    value: bytes | None
    headers: Headers
    time: int


class Dead(NamedTuple):
    """An input that could not be processed."""

    item: Input
    reason: str
    detail: str


class StageParts(NamedTuple):
    """A stage with what follows from it once per process."""

    stage: Stage
    codec: Codec
    envelope: Envelope

    @classmethod
    def of(cls, stage: Stage) -> "StageParts":
        return cls(stage, Codec(stage.types), Envelope(stage.name))


class Decision:
    """What follows from one batch of one partition. Fill it with `fire_due`, `sweep` and `handle`; then
    `changes` gives the new states. `careful` encodes each state as it is saved, so that one that can't
    be encoded is blamed on its input."""

    def __init__(
        self,
        parts: StageParts,
        memory: Memory,
        fetch: Fetch,
        partition: int,
        partitions: int,
        clock: int,
        careful: bool = False,
    ):
        self.outs: list[Out] = []
        self.dead: list[Dead] = []
        self.performs: list[Perform] = []
        self.drops: Counter[str] = Counter()
        self.waits: list[tuple[Input, str]] = []
        self.handled: Counter[str] = Counter()
        self.clock = clock
        self.overlay = Overlay(parts.codec, memory, fetch, partition, partitions)
        self._stage, self._codec, self._envelope = parts
        self._careful = careful

    # before deciding: which states the inputs need

    def keys(self, planned: Iterable[Planned], timers: bool) -> list[str]:
        """State keys that `planned` touch, each once, with their owners' timers when `timers`."""
        wanted: dict[str, None] = {}
        for p in planned:
            for key in p.touches.keys:
                wanted[key] = None
            if timers and p.touches.owner is not None:
                wanted[TIMERS + p.touches.owner] = None
        return self.overlay.missing(wanted)

    def timer_state_keys(self, owners: Iterable[str]) -> list[str]:
        """State keys that hold the timers of these owners."""
        return self.overlay.missing(TIMERS + owner for owner in owners)

    def timer_keys(self, limits: dict[str, int]) -> list[str]:
        """State keys of the timers that will fire for `limits` (owner -> fire what is due until then)."""
        planned = []
        for owner, limit in limits.items():
            for name, (due, payload) in (self.overlay.timers(owner) or {}).items():
                if due <= limit:
                    planned.append(plan(self._stage, Timer(owner, name, due, payload), self.clock))
        return self.keys(planned, True)

    # deciding

    def handle(self, p: Planned) -> bool:
        """Decide one input, its owner's due timers first (STREAMS 11). False: it waits."""
        if type(p.message) is Drop:
            self.handled["Record"] += 1
            self.drops[p.message.reason] += 1
            return True
        owner = p.touches.owner
        if owner is not None and self.overlay.any_timers:
            reason = self._fire(owner, p.now)
            if reason is not None:
                self.waits.append((p.item, reason))
                return False
        return self._decide(p)

    def fire_due(self, owners: Sequence[str], until: int, limit: int) -> bool:
        """Fire the timers of `owners` that are due at or before `until`, at most `limit` of them, in
        order of due time over all owners. False when some are left or wait."""
        agenda = Agenda(self.overlay.timers, owners, until)
        fired = 0
        while (entry := agenda.next()) is not None:
            if fired >= limit:
                return False
            if self._fire_one(entry):
                agenda.again(entry[2])
            fired += 1
        return not agenda.held

    def sweep(self, name: str, keys: Sequence[str], complete: bool) -> None:
        """Meet the next keys of a sweep, in order; `complete`: there are no more behind them. Keys that
        the batch makes ahead of the cursor are met as well."""
        sweep = self.overlay.sweep(name)
        if sweep is None:
            return
        rest = [k for k in keys if k > sweep.cursor]
        last = rest[-1] if rest else sweep.cursor
        heapq.heapify(rest)
        cursor = sweep.cursor
        known = set(rest)
        for key in self.overlay.changed:
            self._met_ahead(sweep, key, cursor, last, complete, known, rest)
        while rest:
            key = heapq.heappop(rest)
            cursor = key
            p = plan(self._stage, SweepItem(name, sweep.payload, key), self.clock)
            p = self._at(p, sweep.now)
            before = len(self.overlay.changed)
            self.overlay.require((key, *p.touches.keys))
            if self.overlay.value(key) is None:
                continue
            self.handle(p)
            if self._ended(name, sweep):
                return
            if len(self.overlay.changed) != before:
                for made in list(self.overlay.changed)[before:]:
                    self._met_ahead(sweep, made, cursor, last, complete, known, rest)
        if not complete:
            self.overlay.put(SWEEPS + name, msgspec.structs.replace(sweep, cursor=last))
            return
        self.overlay.put(SWEEPS + name, None)
        self.handle(self._at(plan(self._stage, SweepEnd(name, sweep.payload), self.clock), sweep.now))

    def sweep_plans(self, name: str, sweep: Sweep, keys: Sequence[str], complete: bool) -> list[Planned]:
        """The inputs a slice will give, for reading their states ahead."""
        items: list[Input] = [SweepItem(name, sweep.payload, k) for k in keys]
        if complete:
            items.append(SweepEnd(name, sweep.payload))
        return [plan(self._stage, item, self.clock) for item in items]

    def changes(self) -> dict[str, bytes | None]:
        """New states as bytes, None for deleted ones. Raises what encoding raises: decide again then,
        with `careful`."""
        return self.overlay.encoded()

    # inside

    def _at(self, p: Planned, now: int) -> Planned:
        return p if self._stage.wall_clock else msgspec.structs.replace(p, now=now)

    def _ended(self, name: str, sweep: Sweep) -> bool:
        """Whether a handler stopped this sweep or began a new one of its name."""
        now = self.overlay.sweep(name)
        return now is None or now.id != sweep.id

    @staticmethod
    def _met_ahead(
        sweep: Sweep, key: str, cursor: str, last: str, complete: bool, known: set[str], rest: list[str]
    ) -> None:
        ahead = key.startswith(sweep.prefix) and key > cursor and (complete or key <= last)
        if ahead and key not in known and not key.startswith("~"):
            known.add(key)
            heapq.heappush(rest, key)

    def _fire(self, owner: str, until: int) -> str | None:
        """Fire the owner's timers due at or before `until`, in order. Why it can't, else None."""
        stuck, last = 0, -1
        while True:
            timers = self.overlay.timers(owner)
            if not timers:
                return None
            due, name = first_due(timers)
            if due > until:
                return None
            stuck = stuck + 1 if due <= last else 0
            last = max(last, due)
            if stuck > STUCK_TIMER:
                self._remove_timer(owner, name)
                self.dead.append(Dead(Timer(owner, name, due), "handler_error", "the timer sets itself without end"))
                continue
            if not self._fire_one((due, name, owner)):
                return self.waits[-1][1]

    def _fire_one(self, entry: tuple[int, str, str]) -> bool:
        due, name, owner = entry
        before = self.overlay.timers(owner) or {}
        timer = Timer(owner, name, due, before[name][1])
        self._remove_timer(owner, name)
        p = plan(self._stage, timer, self.clock)
        if self._decide(p):
            return True
        self.overlay.put(TIMERS + owner, before)
        return False

    def _decide(self, p: Planned) -> bool:
        item = p.item
        if type(item) is Results:
            return self._decide_all(p, item)
        self.handled[type(item).__name__] += 1
        failed = p.failed
        if failed is None:
            overlay = self.overlay
            keys = p.touches.keys
            overlay.require(keys)
            overlay.allowed = keys
            try:
                done = self._take(p, self._stage.handle(item, p.message, overlay, p.now))
            except Lost:
                raise
            except Exception as e:
                done = failure(e)
            finally:
                overlay.allowed = ()
            if done is None:
                return True
            if type(done) is Wait:
                if type(item) is Record or type(item) is Timer:
                    self.waits.append((item, done.reason))
                    return False
                done = DeadLetter("handler_error", f"a {type(item).__name__} can't wait: {done.reason}")
            failed = done
        self.dead.append(Dead(item, failed.reason, failed.detail))
        return True

    def _decide_all(self, p: Planned, item: Results) -> bool:
        """Answers that came together; one by one when that fails, to blame the right one."""
        overlay, keys = self.overlay, p.touches.keys
        overlay.require(keys)
        overlay.allowed = keys
        try:
            if self._take(p, self._stage.handle(item, None, overlay, p.now)) is None:
                self.handled[Result.__name__] += len(item.results)
                return True
        except Lost:
            raise
        except Exception:
            log.warning("%s: answers are taken one by one", self._stage.name, exc_info=True)
        finally:
            overlay.allowed = ()
        for result in item.results:
            self._decide(plan(self._stage, result, self.clock))
        return True

    def _take(self, p: Planned, outcomes: Iterable[Outcome]) -> DeadLetter | Wait | None:
        """Note an input's outcomes: first all are looked at, then all take effect, so that one that
        is dead-lettered or waits leaves nothing behind."""
        outs: list[Out] = []
        effects: list[Outcome] = []
        now, check, headers = p.now, self._codec.check, self._envelope.headers
        for o in outcomes:
            kind = type(o)
            if kind is Save:
                value = o.value
                if value is not None:
                    check(o.key, value)
                    if self._careful:
                        encode(value)
                elif o.key[:1] == "~":
                    raise ValueError(f"state key {o.key!r}: keys that begin with ~ are the loop's")
                effects.append(o)
            elif kind is Emit:
                value = o.value
                if value is not None and type(value) is not bytes:
                    value = encode(value)
                time = now if o.time is None else o.time
                outs.append(Out(o, value, headers(o, p.item, p.depth, len(outs), time), time))
            elif kind is DeadLetter or kind is Wait:
                return o
            elif kind in _EFFECTS:
                if kind is SetTimer and not (type(o.due) is int and type(o.payload) is bytes):
                    raise TypeError("a timer's due is an int (ms), its payload bytes")
                effects.append(o)
            else:
                raise TypeError(f"not an outcome: {kind.__name__}")
        if outs:
            self.outs += outs
        put = self.overlay.put
        for o in effects:
            if type(o) is Save:
                put(o.key, o.value)
            else:
                self._effect(p, o)
        return None

    def _effect(self, p: Planned, o: Outcome) -> None:
        kind = type(o)
        if kind is SetTimer:
            timers = self.overlay.timers(o.owner) or {}
            self.overlay.put(TIMERS + o.owner, {**timers, o.name: (o.due, o.payload)})
        elif kind is CancelTimer:
            self._remove_timer(o.owner, o.name)
        elif kind is Perform:
            self.performs.append(o)
        elif kind is Drop:
            self.drops[o.reason] += 1
        elif kind is StartSweep:
            sweep = Sweep(o.prefix, o.payload, max(1, o.slice), p.now, p.item.cause)
            self.overlay.put(SWEEPS + o.name, sweep)
        elif self.overlay.sweep(o.name) is not None:
            self.overlay.put(SWEEPS + o.name, None)

    def _remove_timer(self, owner: str, name: str) -> None:
        timers = self.overlay.timers(owner)
        if timers and name in timers:
            rest = {n: t for n, t in timers.items() if n != name}
            self.overlay.put(TIMERS + owner, rest or None)


_EFFECTS = frozenset((SetTimer, CancelTimer, StartSweep, StopSweep, Perform, Drop))
