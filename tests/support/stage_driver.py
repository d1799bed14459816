"""Drives a `Stage` in memory: the loop's own decisions, without Kafka and Redis.

    driver = StageDriver(MyStage(), clock=1_700_000_000_000)
    driver.feed("rondo.member-events.v1", "demo:m1", MemberEvent(...), time=driver.now)
    assert driver.emitted("rondo.touches.bulk.v1")[0].value.member_id == "m1"
    driver.advance(driver.now + 3_600_000)      # timers due until then fire, in order
    driver.answer(driver.performed[0].id, Accepted(...))

Each input is a batch of its own. After every input the driver settles: waiting records are offered
again, due timers fire, sweeps run to their end. With `auto=False` it does so only in `settle()`.
A partition's `Assigned` comes before its first input, as in the loop. What the stage must not do
shows here as in production: a state that `touches` did not name is a KeyError, an exception a
dead letter (`strict=True`, the default, raises it as an AssertionError instead unless the test
expects it with `driver.dead`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rondo_common.outcomes import Perform
from rondo_common.partition import PARTITIONS, partition_of
from rondo_common.stage import Assigned, Input, Record, Result, Stage
from rondo_common.streams import codec as states_codec
from rondo_common.streams.decide import Dead, Decision, StageParts
from rondo_common.streams.overlay import Memory
from rondo_common.streams.plan import Planned, plan, plan_all

_MOST = 100_000
"""Turns after which settling counts as endless."""


@dataclass(frozen=True)
class Emitted:
    """A record the stage wrote. `value` is what the handler gave (a Struct), `data` its bytes."""

    topic: str
    key: str
    value: Any
    data: bytes | None
    type: str
    id: str
    subject: str
    partition: int
    time: int
    headers: dict[str, str]

    def decode(self, type_: type) -> Any:
        """The value as its reader decodes it from the bytes."""
        return msgspec.json.decode(self.data or b"", type=type_)


class ManualClock:
    """A clock that moves only when told."""

    frozen = True

    def __init__(self, at: int):
        self.at = at

    def now(self) -> int:
        return self.at


@dataclass
class _Partition:
    number: int
    stored: dict[str, bytes] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    assigned: bool = False
    waiting: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))


class StageDriver:
    """See the module. `clock` is a Clock-like object with `now()` or the starting time in ms."""

    def __init__(
        self,
        stage: Stage,
        clock: Any = 1_700_000_000_000,
        partitions: int = PARTITIONS,
        auto: bool = True,
        strict: bool = True,
        assign: bool = True,
    ):
        self.stage = stage
        self.clock = ManualClock(clock) if isinstance(clock, int) else clock
        self.partitions = partitions
        self.auto = auto
        self.strict = strict
        self.assign = assign
        self.performed: list[Perform] = []
        self.dead: list[Dead] = []
        """Dead letters: item, reason, detail."""
        self.drops: Counter[str] = Counter()
        """Dropped inputs by reason."""
        self._parts = StageParts.of(stage)
        self._emitted: list[Emitted] = []
        self._where: dict[str, int] = {}
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._partitions: dict[int, _Partition] = {}

    # putting in

    @property
    def now(self) -> int:
        return self.clock.now()

    def feed(
        self,
        topic: str,
        key: str,
        value: Any,
        time: int | None = None,
        partition: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Record:
        """Give the stage one record. `value` is a Struct, bytes or None; `time` (ms) defaults to the clock."""
        number = partition_of(key, self.partitions) if partition is None else partition
        data = value if isinstance(value, bytes) else b"" if value is None else msgspec.json.encode(value)
        offset = self._offsets[topic, number]
        self._offsets[topic, number] += 1
        at = self.now if time is None else time
        record = Record(topic, number, offset, key, data, at, headers or {})
        where = self._partition(number)
        if where.waiting[topic]:
            where.waiting[topic].append(record)
        else:
            self._record(where, record)
        if self.auto:
            self.settle()
        return record

    def feed_emitted(self, emitted: Iterable[Emitted]) -> None:
        """Give the stage what another stage's driver emitted."""
        for e in emitted:
            self.feed(e.topic, e.key, e.data if e.data is not None else b"", e.time, e.partition, e.headers)

    def advance(self, to_ms: int) -> None:
        """Move the clock to `to_ms` and fire what comes due until then, in order of due time."""
        if to_ms < self.now:
            raise ValueError("the clock never goes backwards")
        if isinstance(self.clock, ManualClock):
            self.clock.at = to_ms
        else:
            self.clock.advance(to_ms)
        self.settle()

    def answer(self, id: str, answer: Any) -> None:
        """The effector's answer to the `Perform` with this id."""
        self._one(self._partition(self._where[id]), Result(id, answer))
        if self.auto:
            self.settle()

    def answer_all(self, answers: Sequence[tuple[str, Any]]) -> None:
        """Answers to `Perform`s of one partition that come in one batch."""
        where = self._partition(self._where[answers[0][0]])
        decision = self._decision(where)
        for planned in plan_all(self.stage, [Result(id, answer) for id, answer in answers], self.now):
            decision.handle(planned)
        self._commit(where, decision)
        if self.auto:
            self.settle()

    def assigned(self, partition: int) -> None:
        """Give the partition to this worker (again): what the stage does after a restart."""
        where = self._partition(partition, announce=False)
        where.assigned = True
        self._one(where, Assigned(partition))
        if self.auto:
            self.settle()

    # looking

    def emitted(self, topic: str | None = None) -> list[Emitted]:
        """Everything the stage wrote, in order; of one topic when named."""
        return [e for e in self._emitted if topic is None or e.topic == topic]

    def take(self, topic: str | None = None) -> list[Emitted]:
        """Like `emitted`, and forgets what it returns."""
        taken = self.emitted(topic)
        self._emitted = [e for e in self._emitted if topic is not None and e.topic != topic]
        return taken

    def states(self, partition: int | None = None) -> dict[str, Any]:
        """The handler's states of a partition, or of all, by key."""
        found: dict[str, Any] = {}
        for p in self._partitions.values():
            if partition is None or p.number == partition:
                for key, raw in p.stored.items():
                    if key[0] != "~":
                        found[key] = self._parts.codec.decode(key, raw)
        return found

    def state(self, key: str, partition: int | None = None) -> Any:
        """One state, None when absent. Without `partition` it must be in no more than one."""
        found = [
            self._parts.codec.decode(key, p.stored[key])
            for p in self._partitions.values()
            if key in p.stored and partition in (None, p.number)
        ]
        assert len(found) < 2, f"{key} is in {len(found)} partitions: name one"
        return found[0] if found else None

    def timers(self, owner: str | None = None) -> dict[str, dict[str, int]]:
        """Due times by owner and timer name."""
        found: dict[str, dict[str, int]] = {}
        for p in self._partitions.values():
            for key, raw in p.stored.items():
                if key.startswith(states_codec.TIMERS) and owner in (None, key[3:]):
                    timers = self._parts.codec.decode(key, raw)
                    found[key[3:]] = {name: due for name, (due, _) in timers.items()}
        return found

    def waiting(self) -> list[Record]:
        """Records that wait (the first of each topic and partition is the one that said so)."""
        return [r for p in self._partitions.values() for rs in p.waiting.values() for r in rs]

    # going on

    def settle(self) -> None:
        """Until nothing is left to do at this time: retry waiting records, fire due timers, run sweeps."""
        for _ in range(_MOST):
            done = [self._turn(p) for p in list(self._partitions.values())]
            if not any(done):
                return
        raise AssertionError("the stage never comes to rest: a timer or sweep starts itself again without end")

    def _turn(self, where: _Partition) -> bool:
        moved = False
        for queue in where.waiting.values():
            while queue and self._record(where, queue[0], waiting=True):
                queue.pop(0)
                moved = True
        due = [
            key[3:]
            for key, raw in where.stored.items()
            if key.startswith(states_codec.TIMERS)
            and states_codec.earliest(self._parts.codec.decode(key, raw)) <= self.now
        ]
        if due:
            before = dict(where.stored)
            decision = self._decision(where)
            decision.fire_due(sorted(due), self.now, _MOST)
            self._commit(where, decision)
            moved = moved or where.stored != before or bool(decision.outs)
        for name in sorted(where.memory.sweeps):
            self._slice(where, name)
            moved = True
        return moved

    def _slice(self, where: _Partition, name: str) -> None:
        sweep = where.memory.sweeps[name]
        keys = sorted(k for k in where.stored if k.startswith(sweep.prefix) and k > sweep.cursor and k[0] != "~")
        decision = self._decision(where)
        decision.sweep(name, keys[: sweep.slice], len(keys) <= sweep.slice)
        self._commit(where, decision)

    def _partition(self, number: int, announce: bool = True) -> _Partition:
        where = self._partitions.get(number)
        if where is None:
            where = self._partitions[number] = _Partition(number)
        if announce and self.assign and not where.assigned:
            where.assigned = True
            self._one(where, Assigned(number))
        return where

    def _record(self, where: _Partition, record: Record, waiting: bool = False) -> bool:
        done = self._one(where, record)
        if not done and not waiting:
            where.waiting[record.topic].append(record)
        return done

    def _one(self, where: _Partition, item: Input) -> bool:
        decision = self._decision(where)
        planned: Planned = plan(self.stage, item, self.now)
        done = decision.handle(planned)
        self._commit(where, decision)
        return done

    def _decision(self, where: _Partition) -> Decision:
        def fetch(keys: Sequence[str]) -> dict[str, bytes | None]:
            return {key: where.stored.get(key) for key in keys}

        return Decision(self._parts, where.memory, fetch, where.number, self.partitions, self.now, careful=True)

    def _commit(self, where: _Partition, decision: Decision) -> None:
        for dead in decision.dead:
            if self.strict and dead.reason == "handler_error":
                raise AssertionError(f"the handler failed on {dead.item}: {dead.detail}")
        self.dead.extend(decision.dead)
        self.drops.update(decision.drops)
        for key, raw in decision.changes().items():
            if raw is None:
                where.stored.pop(key, None)
            else:
                where.stored[key] = raw
        for key, value in decision.overlay.changed.items():
            if states_codec.in_memory(key):
                where.memory.put(key, value)
        where.memory.timers = sum(key.startswith(states_codec.TIMERS) for key in where.stored)
        for perform in decision.performs:
            self.performed.append(perform)
            self._where[perform.id] = where.number
        for out in decision.outs:
            emit, data, headers, time = out.emit, out.value, out.headers, out.time
            texts = {name: value.decode() for name, value in headers}
            number = emit.partition if emit.partition is not None else partition_of(emit.key, self.partitions)
            self._emitted.append(
                Emitted(
                    emit.topic,
                    emit.key,
                    emit.value,
                    data,
                    emit.type,
                    texts["ce_id"],
                    emit.subject,
                    number,
                    time,
                    texts,
                )
            )
