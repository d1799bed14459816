"""A stage over logs and states in memory, in batches, by the loop's own code; what it took (see deciding.py)."""

import cProfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from rondo_common.partition import PARTITIONS, partition_of
from rondo_common.stage import Assigned, Input, Record, Stage
from rondo_common.streams.codec import TIMERS, earliest, in_memory
from rondo_common.streams.decide import Decision, Out, StageParts, plan
from rondo_common.streams.overlay import Memory

MOST = 250
"""Records of one partition in a batch: 2,000 over eight."""
UNIT_US = 50
"""About what the fixed work takes on an idle core of the machine the design's numbers are from."""

_number = lru_cache(1 << 20)(partition_of)


class _Piece(msgspec.Struct):
    name: str
    at: int
    more: dict[str, int]


_pieces = [b'{"name":"%d","at":%d,"more":{"a":%d,"b":2}}' % (n, n, n) for n in range(40)]
_piece = msgspec.json.Decoder(_Piece).decode


def fixed_work() -> float:
    """Seconds that a piece of work like a stage's took just now."""
    began = time.thread_time()
    found: dict[str, bytes] = {}
    for raw in _pieces:
        one = _piece(raw)
        changed = {**one.more, "c": one.at}
        key = f"m:{one.name}:{len(changed)}"
        found[key] = msgspec.json.encode(_Piece(key, one.at + 1, changed))
        found.get(one.name)
        [(k, v) for k, v in changed.items() if k.startswith("a")]
    return time.thread_time() - began


class Log:
    """All topics, in memory."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, int], list[Record]] = defaultdict(list)

    def put(self, topic: str, key: str, value: bytes | None, headers: dict[str, str], at: int, to: int | None) -> None:
        number = _number(key, PARTITIONS) if to is None else to
        log = self.at[topic, number]
        log.append(Record(topic, number, len(log), key, value or b"", at, headers))

    def outs(self, outs: Iterable[Out]) -> None:
        for o in outs:
            headers = {name: value.decode() for name, value in o.headers}
            self.put(o.emit.topic, o.emit.key, o.value, headers, o.time, o.emit.partition)


class Place:
    """One partition of a stage."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.memory = Memory()
        self.due: dict[str, int] = {}


class Runs:
    """A stage, how far it has read, and what that took: seconds and inputs by topic."""

    def __init__(self, stage: Stage, log: Log):
        self.stage, self._log = stage, log
        self._parts = StageParts.of(stage)
        self._places = [Place() for _ in range(PARTITIONS)]
        self._read: Counter[tuple[str, int]] = Counter()
        self.spent: Counter[str] = Counter()
        self.pace: Counter[str] = Counter()
        self.inputs: Counter[str] = Counter()
        self.profile: cProfile.Profile | None = None
        self.dead: list[str] = []
        for p in range(PARTITIONS):
            self._batch(p, "assigned", [Assigned(p)])

    def turn(self) -> bool:
        """Everything at hand; whether there was anything."""
        moved = False
        for lane in self.stage.lanes:
            for topic in lane:
                for p in range(PARTITIONS):
                    log = self._log.at[topic, p]
                    while self._read[topic, p] < len(log):
                        at = self._read[topic, p]
                        self._read[topic, p] += self._batch(p, topic, log[at : at + MOST])
                        moved = True
        for p, place in enumerate(self._places):
            now = now_ms()
            owners = sorted(o for o, due in place.due.items() if due <= now)
            if owners:
                self._batch(p, "timers", [], owners=owners)
                moved = True
            for name in list(place.memory.sweeps):
                self._sweep(p, name)
                moved = True
        return moved

    def _sweep(self, p: int, name: str) -> None:
        place = self._places[p]
        sweep = place.memory.sweeps[name]
        keys = sorted(k for k in place.stored if k.startswith(sweep.prefix) and k > sweep.cursor)
        self._batch(p, "sweeps", [], sweep=(name, keys[: sweep.slice], len(keys) <= sweep.slice))

    def _batch(
        self,
        p: int,
        what: str,
        items: Sequence[Input],
        owners: Sequence[str] = (),
        sweep: tuple[str, list[str], bool] | None = None,
    ) -> int:
        place, now = self._places[p], now_ms()
        stored = place.stored
        began = time.thread_time()
        if self.profile:
            self.profile.enable()
        planned = [plan(self.stage, item, now) for item in items]
        d = Decision(self._parts, place.memory, lambda keys: {k: stored.get(k) for k in keys}, p, PARTITIONS, now)
        d.overlay.stored.update({k: stored.get(k) for k in d.keys(planned, place.memory.timers > 0)})
        done = 0
        for one in planned:
            if not d.handle(one):
                break
            done += 1
        if owners:
            d.fire_due(owners, now, 10_000)
        if sweep:
            d.sweep(*sweep)
        changes = d.changes()
        if self.profile:
            self.profile.disable()
        took = time.thread_time() - began
        self.spent[what] += took
        self.pace[what] += took * UNIT_US / 1e6 / min(fixed_work(), fixed_work())
        self.inputs[what] += len(items) or (len(sweep[1]) if sweep else len(owners))
        self.dead += [f"{dead.reason}: {dead.detail}" for dead in d.dead]
        for key, raw in changes.items():
            if raw is None:
                stored.pop(key, None)
            else:
                stored[key] = raw
            if key.startswith(TIMERS):
                if raw is None:
                    place.due.pop(key[3:], None)
                else:
                    place.due[key[3:]] = earliest(self._parts.codec.decode(key, raw))
        for key, value in d.overlay.changed.items():
            if in_memory(key):
                place.memory.put(key, value)
        place.memory.timers = len(place.due)
        self._log.outs(d.outs)
        return done


def now_ms() -> int:
    return time.time_ns() // 1_000_000
