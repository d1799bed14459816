"""What the loop does beside its batches: watch the views, prove ownership, show the lag."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, TopicPartition

from rondo_common import kafka
from rondo_common.streams import metrics
from rondo_common.streams.commit import Aborted, Transactions
from rondo_common.streams.effector import Effector, Ownership
from rondo_common.streams.inputs import Inputs, Queue
from rondo_common.streams.overlay import Lost
from rondo_common.streams.store import Change, Store

log = logging.getLogger("rondo.streams")

EVERY_S = 1.0
COMMIT_EVERY_S = 0.2
PROVE_EVERY_S = kafka.SESSION_MS / 1000 / 4


class Idle:
    """Both methods are called on every turn and mostly return at once."""

    def __init__(self, stage: str, consumer: Consumer, transactions: Transactions, store: Store, keep_deletes_ms: int):
        self._stage, self._consumer, self._transactions, self._store = stage, consumer, transactions, store
        self._refresh_s = keep_deletes_ms / 1000 / 8
        self._last = self._committed = 0.0
        self._refreshed = time.monotonic()

    def every(
        self,
        inputs: Inputs,
        positions: Callable[[], Mapping[int, int]],
        lose: Callable[[int, Lost], None],
    ) -> None:
        now = time.monotonic()
        if now - self._committed >= COMMIT_EVERY_S:
            self._committed = now
            self.commit(inputs, positions())
        if now - self._last < EVERY_S:
            return
        self._last = now
        self._check_views(positions(), lose)
        if now - self._refreshed > self._refresh_s:
            self._refreshed = now
            self._refresh(positions())
        self.show_lag(inputs)

    def prove(self, inputs: Inputs, partitions: Mapping[int, int], effector: Effector, ownership: Ownership) -> None:
        """While calls are on their way, keep the proof of ownership fresh: a transaction of unchanged
        offsets, which the broker accepts from the owner only (STREAMS 28)."""
        if not effector.in_flight() or ownership.age() < PROVE_EVERY_S or not partitions:
            return
        began = time.monotonic()
        offsets = [TopicPartition(q.topic, q.partition, q.next) for p in partitions for q in inputs.of(p)[:1]]
        try:
            self._transactions.run(lambda _: None, offsets, self._consumer.consumer_group_metadata())
            ownership.proved(began)
        except Aborted as e:
            log.warning("%s: ownership not proved: %s", self._stage, e)

    def _check_views(self, live: Mapping[int, int], lose: Callable[[int, Lost], None]) -> None:
        """A flush is noticed also when no record comes; else timers would never fire again."""
        if not live:
            return
        try:
            found = self._store.read(dict.fromkeys(live, ()), live)
        except Lost as e:
            log.warning("%s: %s", self._stage, e)
            return
        for partition, values in found.items():
            if values is None:
                lose(partition, Lost("the position is another one"))

    def _refresh(self, live: Mapping[int, int]) -> None:
        """Say that the view is as young as now, though nothing changed (STREAMS 6)."""
        try:
            self._store.apply({p: Change(str(at), str(at), {}, (), {}) for p, at in live.items()})
        except Lost as e:
            log.warning("%s: %s", self._stage, e)

    def commit(self, inputs: Inputs, live: Iterable[int]) -> None:
        """Move the group's offsets over records that changed nothing, and over the commit markers at the
        end of the log, so that everybody else's arithmetic also says 0 (STREAMS 15). No transaction: nothing
        is written that it would have to go with, and the broker takes it from a member of the group only."""
        behind = [q for p in live for q in inputs.of(p) if q.next > q.committed]
        if not behind:
            return
        places = [TopicPartition(q.topic, q.partition, q.next) for q in behind]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as e:
            log.info("%s: offsets not committed: %s", self._stage, e)
            return
        for queue in behind:
            queue.committed = queue.next

    def forget(self, inputs: Inputs) -> None:
        """These queues are somebody else's now: their lag is no longer ours to tell."""
        for queue in inputs.queues.values():
            with suppress(KeyError):
                metrics.LAG.remove(self._stage, queue.topic, str(queue.partition))

    def show_lag(self, inputs: Inputs) -> None:
        for queue in inputs.queues.values():
            metrics.LAG.labels(self._stage, queue.topic, str(queue.partition)).set(self.lag_of(queue))

    def lag_of(self, queue: Queue) -> int:
        """Records after the last processed one; commit markers at the end don't count (STREAMS 15)."""
        if not queue.records and queue.eof >= queue.next:
            return 0
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(queue.topic, queue.partition), cached=True)
        except (KafkaException, RuntimeError):  # nothing fetched yet; closed
            high = -1
        return max(len(queue.records), max(high, queue.end) - queue.next)
