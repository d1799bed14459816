"""The partitions a worker has: given, restored, lost, given away. The base of the loop, which works on them."""

import logging
import time

from confluent_kafka import Consumer, TopicPartition

from rondo_common.streams.assignment import bounds, starts_of, together
from rondo_common.streams.commit import Fatal
from rondo_common.streams.effector import Ownership
from rondo_common.streams.intake import seek
from rondo_common.streams.overlay import Lost, Memory, Unreadable
from rondo_common.streams.owned import Owned
from rondo_common.streams.report import Report
from rondo_common.streams.restore import RUBBISH
from rondo_common.streams.store import Applied

log = logging.getLogger("rondo.streams")

IDLE_S = 0.05
"""How long to wait for a record when there is nothing to do."""
BUSY_S = 0.005
"""The same while answers of the effector are due or a restore runs."""
DRAIN_S = 2.0


class Partitions(Report):
    """What happens to the partitions of one worker. Calls of the consumer's poll come to `_on_...`."""

    ownership: Ownership
    joined: bool
    """Whether the group has given this worker its partitions (which may be none)."""
    _rebalanced: bool
    _failure: BaseException | None

    def _drain(self, deadline: float) -> None:
        """Before the partitions go: take the answers of calls that are on their way."""
        raise NotImplementedError

    # assignment (called from inside the consumer's poll)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._assign(consumer, partitions)
        except BaseException as e:
            self._failure = e

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget()
        numbers = together(self._inputs.topics, partitions)
        limits = bounds(self._c.admin, partitions)
        self._inputs.assign(limits)
        self.owned = {p: Owned(p) for p in numbers}
        self.ownership.assign(numbers)
        placed = [TopicPartition(t, p, first) for (t, p), (first, _) in limits.items()]
        consumer.assign(placed)
        if placed:
            consumer.pause(placed)
        self._c.restorer.begin(numbers, "assigned")
        self.joined = True
        log.info("%s: assigned %s", self._stage.name, numbers)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._drain(time.monotonic() + DRAIN_S)
            self._c.idle.commit(self._inputs, self.positions())
        except BaseException as e:
            self._failure = e
        self._forget()

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("%s: partitions lost", self._stage.name)
        self._forget()

    def _forget(self) -> None:
        """The partitions are somebody else's from now on."""
        self._rebalanced = True
        self.ownership.clear()
        self._c.restorer.cancel()
        self._c.idle.forget(self._inputs)
        self._inputs.clear()
        self._answers.clear()
        self.owned = {}

    # restore

    def _restore(self) -> None:
        restorer = self._c.restorer
        if not restorer.active:
            return
        live = any(o.position is not None for o in self.owned.values())
        restored = []
        for done in restorer.step(BUSY_S if live else IDLE_S):
            owned = self.owned[done.partition]
            owned.memory = Memory(owned.unreadable)
            try:
                for key, value in self._c.store.in_memory(done.partition, done.position).items():
                    owned.memory.put(key, value)
            except Lost as e:
                self._lose(done.partition, e)
                continue
            self._timers(owned, done.applied)
            owned.position = done.position
            restored.append(owned)
            log.info("%s partition %d is live at %d", self._stage.name, done.partition, done.position)
        self._place(restored)
        self._count_partitions()

    def _place(self, restored: list[Owned]) -> None:
        """Read on where the restored states end."""
        consumer, inputs = self._c.consumer, self._inputs
        new = [(q, o) for o in restored if not o.placed for q in inputs.of(o.partition)]
        starts = starts_of(consumer, {(q.topic, q.partition): (o.memory.offsets.get(q.topic), q.next) for q, o in new})
        resumed = []
        for owned in restored:
            queues = inputs.of(owned.partition)
            for queue in queues:
                if owned.placed:
                    queue.place(owned.memory.offsets.get(queue.topic) or 0)
                    # what was passed over since is not among the states, but need not be read again
                    owned.memory.pass_over({queue.topic: queue.next}, 0)
                    continue
                queue.place(starts[queue.topic, queue.partition])
                if queue.next > owned.memory.offsets.get(queue.topic, queue.next):
                    owned.memory.pass_over({queue.topic: queue.next}, 0)
                seek(consumer, TopicPartition(queue.topic, queue.partition, queue.next))
            owned.placed = True
            resumed += [TopicPartition(q.topic, q.partition) for q in queues if not q.paused]
        if resumed:
            consumer.resume(resumed)

    def _lose(self, partition: int, why: Lost) -> None:
        """The partition's view can't be used: restore it, from the start of the log when there is rubbish in it.
        Its records stay queued."""
        log.warning("%s partition %d: view lost: %s", self._stage.name, partition, why)
        owned = self.owned[partition]
        owned.position = None
        if isinstance(why, Unreadable):
            if why.key in owned.unreadable:
                raise Fatal(f"{self._stage.name} partition {partition}: {why}, in the log neither")
            owned.unreadable.add(why.key)
        self._c.restorer.begin([partition], RUBBISH if isinstance(why, Unreadable) else "lost")
        self._count_partitions()

    @staticmethod
    def _timers(owned: Owned, applied: Applied) -> None:
        owned.memory.timers, owned.memory.next_due = applied
