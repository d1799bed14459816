"""Faust inside its fences: the one place that imports it.

Stock faust-streaming 0.15.3 acknowledges events it skipped, commits past events in flight and loses the
first events of a young group. `SafeTransport` closes each of these holes; the letters below are the
rules, each with a test that fails without it. What it can't give is "once": a handler must be
idempotent, must not raise, and its input topics must be written outside transactions and kept by
time, not compacted.
"""

from typing import Any

import faust
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver

from rondo_common import kafka
from rondo_common.partition import partition_of


class SafeConsumer(driver.Consumer):
    """Never acknowledges a skipped or stale event, never commits past the first unacknowledged one."""

    def on_init(self) -> None:
        super().on_init()
        self._first: dict[Any, int] = {}

    def _to_message(self, tp: Any, record: Any) -> Any:
        """Note the first offset delivered of each partition: where a young group's run begins."""
        message = super()._to_message(tp, record)
        place = base.ensure_TP(tp)
        self._first[place] = min(message.offset, self._first.get(place, message.offset))
        return message

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self._first.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """(d) What was acknowledged under an earlier assignment says nothing about this one."""
        self._first.clear()
        for tp in list(self._acked):
            self._acked[tp] = []
            self._acked_index[tp] = set()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """(e) A partition without a committed offset begins at 0: aiokafka would go on where it had
        prefetched to before the rebalance."""
        await super().perform_seek()
        for tp in list(self.assignment()):
            if not self._committed_offset.get(tp) and not self._is_changelog_tp(tp):
                await self.seek(tp, 0)

    def ack(self, message: Any) -> bool:
        """(a) Only an event of the present generation that was really handed out counts as done."""
        if not message.tracked or message.generation_id != self.app.consumer_generation_id:
            message.acked = True
            self._unacked_messages.discard(message)
            base.notify(self._waiting_for_ack)
            return False
        return bool(super().ack(message))

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """(c) A jump in offsets is no proof that anything was handled."""

    def _new_offset(self, tp: Any) -> int | None:
        """(b) The end of the contiguous run of acknowledged offsets from the committed one (or the first
        delivered), None when it has not moved."""
        acked = self._acked[tp]
        if not acked:
            return None
        acked.sort()
        committed = self._committed_offset[tp]
        at = committed or self._first.get(tp)
        if at is None or acked[0] > at:
            return None
        run = 0
        for offset in acked:
            if offset > at:
                break
            at = max(at, offset + 1)
            run += 1
        self._acked_index[tp].difference_update(acked[:run])
        acked[:run] = []
        return at if at != committed else None


class SafeTransport(driver.Transport):
    """Faust's aiokafka transport with the safe consumer."""

    Consumer = SafeConsumer


def make_app(name: str, bootstrap: str, partitions: int, loop: Any) -> faust.App:
    """A Faust app on `loop` with the safe transport: no web server, no tables in its own changelogs'
    way, no declaring of topics, events as raw bytes. Group id is `name`."""
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        loop=loop,
        web_enabled=False,
        web_tables_enabled=False,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=kafka.SESSION_MS / 1000,
        broker_heartbeat_interval=kafka.HEARTBEAT_MS / 1000,
        broker_commit_interval=0.3,
        broker_max_poll_records=500,
        stream_wait_empty=False,
        stream_publish_on_commit=False,
        consumer_auto_offset_reset="earliest",
        processing_guarantee="at_least_once",
    )
    app.transport = SafeTransport(app.conf.broker_consumer, app)
    return app


def murmur2_partition(key: str, partitions: int) -> int:
    """Where the one partitioner puts a key; Faust's producer is told explicitly."""
    return partition_of(key, partitions)
