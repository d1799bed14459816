"""One batch: read the states its inputs touch, decide, and collect what is to be written.

Nothing is changed here. Reading is one round trip for all partitions (and a second one when timers
fire); a partition whose view turns out to be lost drops out and leaves the others alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message, Producer

from rondo_common.stage import Input, Record, Result
from rondo_common.streams import metrics
from rondo_common.streams.codec import OFFSETS, Sweep, encode
from rondo_common.streams.commit import produce
from rondo_common.streams.deadletters import dead_record
from rondo_common.streams.decide import Decision, StageParts
from rondo_common.streams.overlay import Lost, Memory
from rondo_common.streams.plan import Planned, plan, plan_all
from rondo_common.streams.store import Change, Store, timer_changes

BIG_STATE = 16_384
MOST_PASSED = 10_000
"""Records of a partition that may be passed over, nothing written for them, before the states say how far it has
read: a restore reads at most so many again."""


@dataclass
class Work:
    """What one partition puts into a batch. `extra` are inputs that are no records (assignment,
    answers); `owners` have timers due at or before `until`; `slice` is (name, sweep, keys, complete)."""

    partition: int
    position: int
    memory: Memory
    extra: list[Input] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    until: int = 0
    slice: tuple[str, Sweep, list[str], bool] | None = None
    records: list[Record] = field(default_factory=list)
    # filled by `Batch.decide`
    decision: Decision | None = None
    states: dict[str, bytes | None] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    """Records handled, by topic."""
    next: dict[str, int] = field(default_factory=dict)
    """Offset after the last record handled, by topic."""
    held: set[str] = field(default_factory=set)
    """Topics whose next record waits."""
    timers_wait: bool = False

    @property
    def writes(self) -> bool:
        """Whether a transaction is needed: something is written, not only records passed over."""
        d = self.decision
        return bool(self.states or d.outs or d.dead or d.performs)

    @property
    def inputs(self) -> int:
        return len(self.extra) + len(self.owners) + len(self.records) + (len(self.slice[2]) + 1 if self.slice else 0)

    @property
    def answers(self) -> int:
        return sum(isinstance(item, Result) for item in self.extra)


class Batch:
    """Decides the work of several partitions. `lost` are those whose view can't be used."""

    def __init__(self, parts: StageParts, store: Store, partitions: int, clock: int, most: int):
        self._parts, self._store, self._partitions = parts, store, partitions
        self.clock = clock
        self._most = most
        self.works: dict[int, Work] = {}
        self.lost: dict[int, Lost] = {}
        self._planned: dict[int, tuple[list[Planned], list[Planned]]] = {}

    def decide(self, works: Iterable[Work]) -> None:
        """Decide; afterwards `works` holds what can be committed."""
        self.works = {w.partition: w for w in works}
        stage = self._parts.stage
        for w in self.works.values():
            extra = plan_all(stage, w.extra, self.clock)
            self._planned[w.partition] = (extra, [plan(stage, record, self.clock) for record in w.records])
            w.decision = self._decision(w, False)
        wanted = {w.partition: self._keys(w) for w in self.works.values()}
        # where no state is looked at there is none that could be wrong: the apply checks the position all the same
        self._read({partition: keys for partition, keys in wanted.items() if keys})
        timers = {w.partition: self._timer_keys(w) for w in list(self.works.values()) if w.memory.timers}
        self._read({partition: keys for partition, keys in timers.items() if keys})
        for w in list(self.works.values()):
            try:
                try:
                    self._run(w)
                except Lost:
                    raise
                except Exception:
                    # a state that can't be encoded: once more, with care, to blame the right input
                    w.decision = self._decision(w, True)
                    self._run(w)
            except Lost as e:
                self._lose(w.partition, e)

    # reading

    def _decision(self, w: Work, careful: bool) -> Decision:
        def fetch(keys: Sequence[str]) -> dict[str, bytes | None]:
            found = self._store.read({w.partition: keys}, {w.partition: w.position})[w.partition]
            if found is None:
                raise Lost("the position is another one")
            return found

        return Decision(self._parts, w.memory, fetch, w.partition, self._partitions, self.clock, careful)

    def _keys(self, w: Work) -> list[str]:
        extra, records = self._planned[w.partition]
        planned = [*extra, *records]
        if w.slice is not None:
            name, sweep, keys, complete = w.slice
            planned += w.decision.sweep_plans(name, sweep, keys, complete)
        timers = w.memory.timers > 0
        keys = w.decision.keys(planned, timers)
        if w.slice is not None:
            keys += w.decision.overlay.missing(k for k in w.slice[2] if k not in keys)
        return keys + w.decision.timer_state_keys(w.owners)

    def _timer_keys(self, w: Work) -> list[str]:
        try:
            return w.decision.timer_keys(self._limits(w))
        except Lost as e:
            self._lose(w.partition, e)
            return []

    def _limits(self, w: Work) -> dict[str, int]:
        """Owner -> until when its timers may fire in this batch."""
        limits = dict.fromkeys(w.owners, w.until)
        for planned in self._planned[w.partition]:
            for p in planned:
                owner = p.touches.owner
                if owner is not None and limits.get(owner, -1) < p.now:
                    limits[owner] = p.now
        return limits

    def _read(self, wanted: Mapping[int, Sequence[str]]) -> None:
        """Read states, always together with the position (STREAMS 1)."""
        if not wanted:
            return
        try:
            found = self._store.read(wanted, {p: self.works[p].position for p in wanted})
        except Lost as e:
            for partition in list(wanted):
                self._lose(partition, e)
            return
        for partition, values in found.items():
            if values is None:
                self._lose(partition, Lost("the position is another one"))
            else:
                self.works[partition].decision.overlay.stored.update(values)

    def _lose(self, partition: int, why: Lost) -> None:
        self.lost[partition] = why
        self.works.pop(partition, None)

    # deciding

    def _run(self, w: Work) -> None:
        d = w.decision
        extra, records = self._planned[w.partition]
        w.done, w.next, w.held = {}, {}, set()
        for planned in extra:
            d.handle(planned)
        if w.owners:
            w.timers_wait = not d.fire_due(w.owners, w.until, self._most) and bool(d.waits)
        if w.slice is not None:
            name, _, keys, complete = w.slice
            d.sweep(name, keys, complete)
        for planned in records:
            topic = planned.item.topic
            if topic in w.held:
                continue
            if d.handle(planned):
                w.done[topic] = w.done.get(topic, 0) + 1
                w.next[topic] = planned.item.offset + 1
            else:
                w.held.add(topic)
        w.states = d.changes()
        passed = w.memory.passed
        if (w.next or passed) and (w.writes or passed + sum(w.done.values()) >= MOST_PASSED):
            w.states[OFFSETS] = encode(w.memory.offsets | w.next)


class Written:
    """Writes a batch inside a transaction and learns where the state topic then stands."""

    def __init__(self, batch: Batch, parts: StageParts, state_topic: str, state_offset: int):
        self._batch, self._parts = batch, parts
        self._topic, self._offset = state_topic, state_offset
        self.ends: dict[int, int] = {}
        """Partition -> offset after its last state record, known once the commit is through."""

    def __call__(self, producer: Producer) -> None:
        send = producer.produce
        for w in self._batch.works.values():
            for out in w.decision.outs:
                emit = out.emit
                number = -1 if emit.partition is None else emit.partition
                try:
                    send(emit.topic, out.value, emit.key, number, timestamp=out.time, headers=out.headers)
                except BufferError:
                    produce(
                        producer,
                        topic=emit.topic,
                        value=out.value,
                        key=emit.key,
                        partition=number,
                        timestamp=out.time,
                        headers=out.headers,
                    )
            for dead in w.decision.dead:
                record = dead_record(self._parts.stage, dead, w.partition, self._batch.clock)
                produce(
                    producer,
                    topic=record.topic,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    timestamp=self._batch.clock,
                )
            self._states(producer, w)

    def _states(self, producer: Producer, w: Work) -> None:
        send = producer.produce
        number = self._offset + w.partition
        clock = self._batch.clock
        last = len(w.states) - 1
        for i, (key, raw) in enumerate(w.states.items()):
            if i < last:
                try:
                    send(self._topic, raw, key, number, timestamp=clock)
                    continue
                except BufferError:
                    pass
            report = self._report(w.partition) if i == last else None
            produce(
                producer,
                topic=self._topic,
                value=raw,
                key=key,
                partition=number,
                timestamp=clock,
                on_delivery=report,
            )

    def _report(self, partition: int) -> Callable[[object, Message], None]:
        def delivered(error: object, message: Message) -> None:
            if error is None:
                self.ends[partition] = message.offset() + 1

        return delivered


def change_of(w: Work, parts: StageParts, end: int) -> Change:
    """What the view has to take over after the commit."""
    stored = w.decision.overlay.stored
    fresh = [k for k, raw in w.states.items() if raw is not None and stored.get(k) is None]
    return Change(str(w.position), str(end), w.states, fresh, timer_changes(parts.codec, w.states))


def count(stage: str, w: Work) -> None:
    """Metrics of a committed batch of one partition."""
    d = w.decision
    for kind, n in d.handled.items():
        metrics.INPUTS.labels(stage, kind).inc(n)
    for topic, n in w.done.items():
        metrics.RECORDS.labels(stage, topic).inc(n)
    topics: dict[str, int] = {}
    said: dict[str, int] = {}
    for out in d.outs:
        topics[out.emit.topic] = topics.get(out.emit.topic, 0) + 1
        if out.emit.tally:
            said[out.emit.tally] = said.get(out.emit.tally, 0) + 1
    for topic, n in topics.items():
        metrics.EMITTED.labels(stage, topic).inc(n)
    for what, n in said.items():
        metrics.TALLY.labels(stage, what).inc(n)
    for reason, n in d.drops.items():
        metrics.DROPPED.labels(stage, reason).inc(n)
    for dead in d.dead:
        metrics.DEAD.labels(stage, dead.reason).inc()
    if d.waits:
        metrics.WAITS.labels(stage).inc(len(d.waits))
    sizes = metrics.STATE_BYTES.labels(stage)
    for key, raw in w.states.items():
        if raw is not None and len(raw) > BIG_STATE:
            metrics.STATE_BIG.labels(stage, key.partition(":")[0]).inc()
    sample = next((raw for raw in w.states.values() if raw is not None), None)
    if sample is not None:
        sizes.observe(len(sample))
