"""The loop: take what is there, decide, commit once, apply. docs/streams.md has the drawing.

Everything happens in one thread, in this order, again and again (`Loop.turn`):

    gather   records from the consumer into their queues; rebalances are noticed here
    restore  partitions whose view is not up to date, a step at a time
    choose   inputs for a batch: assignments, answers, due timers, a slice of a sweep, records
    decide   read the states with their position, call the pure handlers           (batch.py)
    commit   outputs, states, dead letters and offsets in one Kafka transaction    (commit.py)
    apply    the same states to Redis, if it still stands where it stood           (store.py)
    perform  hand tasks to the effector

A partition is restoring (no position) or live. Whatever goes wrong with its view makes it restore.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message, TopicPartition

from rondo_common.stage import Result
from rondo_common.streams import metrics
from rondo_common.streams.batch import Batch, Work, Written, change_of, count
from rondo_common.streams.choose import Sweeping, due, slices
from rondo_common.streams.codec import GLOBALS, in_memory
from rondo_common.streams.commit import Aborted, Fatal
from rondo_common.streams.decide import StageParts
from rondo_common.streams.effector import Claim, Ownership
from rondo_common.streams.inputs import Inputs
from rondo_common.streams.intake import balance, leave, take
from rondo_common.streams.marks import APPLY, IDLE, WRITE
from rondo_common.streams.overlay import Lost
from rondo_common.streams.owned import Clients, Owned
from rondo_common.streams.pace import LEAST_S, UNHURRIED_S, gather_s
from rondo_common.streams.partitions import BUSY_S, DRAIN_S, IDLE_S, Partitions
from rondo_common.streams.store import Applied

log = logging.getLogger("rondo.streams")

BATCH = 2_000
"""Most records of one transaction."""
TIMER_RETRY_S = 0.2
MOST_ABORTS = 20


class Loop(Partitions):
    """Runs one stage. `run` returns when `stopping()` says so; Fatal and TooMany come out."""

    def __init__(self, parts: StageParts, clients: Clients, partitions: int, batch: int = BATCH):
        self._stage, self._parts = parts.stage, parts
        self._c = clients
        self._partitions = partitions
        self._batch_size = batch
        self._inputs = Inputs(parts.stage, batch, clients.effector is not None)
        self.owned: dict[int, Owned] = {}
        self.ownership = Ownership()
        self.joined = False
        self._answers: deque[tuple[Claim, Result]] = deque()
        self._rebalanced = False
        self._failure: BaseException | None = None
        self._busy = False
        self._last_batch = 0.0
        self._waiting: float | None = None
        """Since when nothing but unhurried records is at hand."""
        self._sweeping = Sweeping()
        self._pace = 0.0
        self._line_s: float | None = None
        """For how long the effector had work after the last batch."""
        self._least = getattr(parts.stage, "gather_s", LEAST_S)
        self._unhurried_s = getattr(parts.stage, "unhurried_s", UNHURRIED_S)
        self._ends: dict[int, int] = {}
        self._aborts = 0

    def run(self, stopping: Callable[[], bool]) -> None:
        c = self._c
        if c.effector is not None:
            c.effector.start(self._answered)
        c.consumer.subscribe(
            self._inputs.topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        for what in self.pending():
            metrics.PENDING.labels(self._stage.name, what).set_function(lambda what=what: self.pending()[what])
        while not stopping():
            self.turn()
        self._drain(time.monotonic() + DRAIN_S)
        c.idle.commit(self._inputs, self.positions())

    def turn(self) -> None:
        self._gather()
        self._restore()
        works = [] if self._nobody_waits() else self._choose()
        self._busy = self._process(works) if works else False
        if self._c.effector is not None:
            self._c.idle.prove(self._inputs, self.positions(), self._c.effector, self.ownership)
        self._c.idle.every(self._inputs, self.positions, self._lose)

    # gather

    def _gather(self) -> None:
        """Wait for a record if there is nothing else to do, then take what is there (STREAMS 14)."""
        consumer, inputs = self._c.consumer, self._inputs
        wait = 0.0
        if self._busy:
            if self._line_s or inputs.buffered() < self._batch_size:
                time.sleep(max(0.0, min(self._pace, self._last_batch + self._pace - time.monotonic())))
        else:
            wait = self._wait()
        self._rebalanced = False
        messages: list[Message] = []
        first = consumer.poll(wait)
        if first is not None:
            messages.append(first)
            messages += consumer.consume(self._batch_size, 0)
        if self._failure is not None:
            raise self._failure
        if self._rebalanced:
            leave(messages)  # the new assignment starts at its own offsets
            return
        take(messages, inputs.queues, self._stage.name)
        balance(consumer, inputs)

    def _nobody_waits(self) -> bool:
        """Whether all there is to do are records that may wait for others, so that one transaction does for more
        of them."""
        now, inputs = time.monotonic(), self._inputs
        full = inputs.buffered() >= self._batch_size
        if full or self._more(buffered=False) or self._timers_due() or not inputs.unhurried():
            self._waiting = None
            return False
        if self._waiting is None:
            self._waiting = now
        if now - self._waiting < self._unhurried_s:
            return True
        self._waiting = None
        return False

    def _timers_due(self) -> bool:
        clock = self._c.clock.now()
        return any(o.memory.next_due is not None and o.memory.next_due <= clock for o in self.owned.values())

    def _wait(self) -> float:
        effector = self._c.effector
        if self._answers or self._c.restorer.active:
            return 0.0
        if effector is not None and effector.in_flight():
            return BUSY_S
        dues = [o.memory.next_due for o in self.owned.values() if o.memory.next_due is not None]
        if not dues:
            return IDLE_S
        return max(BUSY_S, min(IDLE_S, (min(dues) - self._c.clock.now()) / 1000))

    # choose

    def _answered(self, claim: Claim, id: str, answer: Any) -> None:
        """The effector's answer, from any thread."""
        self._answers.append((claim, Result(id, answer)))

    def _choose(self) -> list[Work]:
        """The inputs of the next batch."""
        while self._answers:
            claim, result = self._answers.popleft()
            if claim.still_owner():
                self.owned[claim.partition].pending.append(result)
            else:
                metrics.DISCARDED.labels(self._stage.name).inc()
        now = time.monotonic()
        clock = self._c.clock.now()
        live = {p: o for p, o in self.owned.items() if o.position is not None}
        capacity = self._c.effector.capacity() if self._c.effector is not None else self._batch_size
        records = self._inputs.select(live, now, capacity)
        works: dict[int, Work] = {}
        for p, owned in live.items():
            w = Work(
                p, owned.position, owned.memory, list(owned.pending)[: self._batch_size], records=records.get(p, [])
            )
            try:
                if owned.timers_after <= now:
                    horizon = None if self._stage.wall_clock else self._inputs.horizon(p, now)
                    due(w, owned, self._c.store, clock, horizon, self._batch_size)
            except Lost as e:
                self._lose(p, e)
                continue
            works[p] = w
        for p, why in slices(works, self.owned, self._sweeping, self._c.store).items():
            self._lose(p, why)
            del works[p]
        return [w for w in works.values() if w.inputs]

    # decide, commit, apply, perform

    def _process(self, works: list[Work]) -> bool:
        """One batch. Whether anything came of it."""
        began = time.monotonic()
        marks = self._c.marks
        marks.begin(sum(w.inputs for w in works))
        batch = Batch(self._parts, self._c.store, self._partitions, self._c.clock.now(), self._batch_size)
        batch.decide(works)
        for p, why in batch.lost.items():
            self._lose(p, why)
        for w in batch.works.values():
            self.owned[w.partition].limit.check(began, w.inputs, len(w.decision.dead))
        decided = list(batch.works.values())
        batch.works = {w.partition: w for w in decided if w.writes}
        marks.phase(WRITE if batch.works else IDLE)
        if batch.works and not self._commit(batch, began):
            marks.phase(IDLE)
            return False
        marks.phase(APPLY if batch.works else IDLE)
        for w in decided:
            self._done(w, began)
        self._apply(batch)
        marks.phase(IDLE)
        self._line_s = self._lasts(decided, began)
        self._pace = gather_s(sum(w.inputs for w in decided), self._more(), self._least, self._line_s)
        self._last_batch = began
        return any(w.done or w.writes for w in decided)

    def _lasts(self, works: list[Work], began: float) -> float | None:
        """For how many seconds the effector has work, at the pace of the answers in the batch that `began`; None when
        it has nothing to do with this stage's pace."""
        effector = self._c.effector
        line = effector.in_flight() if effector is not None else 0
        if not line:
            return 0.0 if self._answers else None
        answers = sum(w.answers for w in works)
        return line * (began - self._last_batch) / answers if answers else 0.0

    def _more(self, buffered: bool = True) -> bool:
        """Whether there is work beyond the last batch: sweeps, answers on their way, and (`buffered`) records."""
        effector, owned = self._c.effector, self.owned.values()
        at_work = self._c.restorer.active or (effector is not None and effector.in_flight() > 0)
        return (
            at_work
            or bool(self._answers)
            or (buffered and self._inputs.buffered() > 0)
            or any(o.memory.sweeps or o.pending for o in owned)
        )

    def _commit(self, batch: Batch, began: float) -> bool:
        written = Written(batch, self._parts, self._stage.state_topic, self._stage.state_offset)
        offsets = [tp for w in batch.works.values() for tp in self._offsets(w)]
        try:
            self._c.transactions.run(written, offsets, self._c.consumer.consumer_group_metadata())
        except Aborted as e:
            metrics.TRANSACTIONS.labels(self._stage.name, "aborted").inc()
            self._aborts += 1
            log.warning("%s: transaction aborted: %s", self._stage.name, e)
            if self._aborts >= MOST_ABORTS:
                raise Fatal(f"{self._aborts} transactions in a row were aborted, the last one: {e}") from e
            time.sleep(min(1.0, 0.02 * 2**self._aborts))
            return False
        self._aborts = 0
        self.ownership.proved(began)
        self._ends = written.ends
        metrics.TRANSACTIONS.labels(self._stage.name, "committed").inc()
        metrics.COMMIT.labels(self._stage.name).observe(time.monotonic() - began)
        metrics.BATCH.labels(self._stage.name).observe(sum(w.inputs for w in batch.works.values()))
        return True

    def _offsets(self, w: Work) -> list[TopicPartition]:
        """Offsets that the transaction moves, and at least one for every partition whose state it
        writes, moved or not: that is what fences it (STREAMS 3)."""
        moved = [TopicPartition(topic, w.partition, offset) for topic, offset in w.next.items()]
        if not moved:
            queue = self._inputs.of(w.partition)[0]
            moved.append(TopicPartition(queue.topic, queue.partition, queue.next))
        return moved

    def _done(self, w: Work, began: float) -> None:
        """The inputs are dealt with, but for what waits: leave that alone for a moment."""
        owned = self.owned[w.partition]
        for _ in w.extra:
            owned.pending.popleft()
        if not w.writes:
            owned.memory.pass_over(w.next, sum(w.done.values()))
        for queue in self._inputs.of(w.partition):
            n = w.done.get(queue.topic, 0)
            if n:
                queue.take(n, w.writes)
            if queue.topic in w.held:
                queue.hold(began)
        if w.timers_wait:
            owned.timers_after = began + TIMER_RETRY_S
        owned.limit.count(began, w.inputs, len(w.decision.dead))
        count(self._stage.name, w)

    def _apply(self, batch: Batch) -> None:
        """The transaction is committed: bring Redis and this worker's own memory up to it."""
        works = batch.works
        changes = {p: change_of(w, self._parts, self._ends[p]) for p, w in works.items() if w.states}
        applied: dict[int, Applied | None] = dict.fromkeys(changes)
        try:
            if changes:
                applied = self._c.store.apply(changes)
        except Lost as e:
            log.warning("%s: %s", self._stage.name, e)
        for p, result in applied.items():
            if result is None:
                self._lose(p, Lost("it did not stand where it was left"))
                continue
            owned, w = self.owned[p], works[p]
            owned.position = self._ends[p]
            self._timers(owned, result)
            owned.memory.reached(w.next)
            for key in filter(in_memory, w.states):
                owned.memory.put(key, w.decision.overlay.changed[key])
                if key.startswith(GLOBALS):
                    self._inputs.release(p)
        for w in works.values():
            self._perform(w)

    def _perform(self, w: Work) -> None:
        performs, effector = w.decision.performs, self._c.effector
        if not performs:
            return
        if effector is None:
            raise Fatal(f"{self._stage.name} performs tasks but has no effector")
        metrics.TASKS.labels(self._stage.name).inc(len(performs))
        epoch = self.ownership.epoch(w.partition)
        if epoch is not None:
            effector.submit(Claim(self.ownership, w.partition, epoch), performs)

    # ending

    def _drain(self, deadline: float) -> None:
        """Before the partitions go: take the answers of calls that are on their way."""
        effector = self._c.effector
        if effector is None or not (effector.in_flight() or self._answers):
            return
        while effector.in_flight() and time.monotonic() < deadline:
            time.sleep(BUSY_S)
        self._inputs.clear_records()
        works = [w for w in self._choose() if w.extra]
        for w in works:
            w.owners, w.slice = [], None
        if works:
            self._process(works)
