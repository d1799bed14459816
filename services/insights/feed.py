"""Feeding the tables, exactly once.

The position is in the warehouse itself: the highest _offset of each (topic, partition) in its table.
A batch is one INSERT of one table, and one INSERT is one block, so it is in the table whole or not at
all; after a kill the position read back says where to go on. Several partitions may share the block,
each has its own position in it. The group's committed offsets follow behind, for the eye only (lag).
"""

import threading
import time
from collections import defaultdict
from typing import Any

import msgspec

from rondo_common import kafka, telemetry, topics, warehouse
from rondo_common.clock import iso
from rondo_common.settings import Settings
from services.insights.tables import BY_TOPIC, TABLES, Table

GROUP = "rondo.insights"
BATCH_ROWS = 20_000
BATCH_S = 0.5
"""A batch is written when this much time passed or this many rows wait."""
_ONE_BLOCK = {
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 1_000_000_000,
}

log = telemetry.logger(__name__)


class Feed:
    """Reads every topic of `TABLES` and writes rows. One thread; `run` until `stop`."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stop = threading.Event()
        self._client: Any = None
        self._consumer: Any = None
        self._producer: Any = None
        self._rows: dict[str, list[bytes]] = defaultdict(list)
        self._next: dict[tuple[str, int], int] = {}
        self._written: dict[tuple[str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._state = "starting"
        self.rows = 0
        """Rows written since the start."""

    def ready(self) -> tuple[bool, str]:
        """Whether rows are being written."""
        return (self._state == "running", self._state)

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Until `stop`: connect, take up the positions, read and write. Trouble is tried again."""
        while not self._stop.is_set():
            try:
                self._open()
                self._state = "running"
                while not self._stop.is_set():
                    self._turn()
            except Exception as e:
                self._state = f"waiting: {type(e).__name__}"
                log.warning("feed interrupted; positions are read again", error=str(e)[:300])
                self._stop.wait(1.0)
            finally:
                if self._consumer is not None:
                    self._consumer.close()
                    self._consumer = None
        self._state = "stopped"

    def _open(self) -> None:
        self._client = warehouse.connect(self._settings.url_warehouse)
        self._client.command(f"CREATE DATABASE IF NOT EXISTS {warehouse.DATABASE}")
        for table in TABLES:
            self._client.command(table.create(warehouse.DATABASE))
        self._consumer = kafka.reader(self._settings.kafka, GROUP)
        self._rows.clear()
        self._next.clear()
        self._written.clear()
        for table in TABLES:
            found = self._client.query(
                f"SELECT _partition, max(_offset) FROM {warehouse.DATABASE}.{table.name} "
                f"WHERE _topic = '{table.topic}' GROUP BY _partition"
            ).result_rows
            known = {int(p): int(o) + 1 for p, o in found}
            topic = self._consumer.list_topics(table.topic, timeout=kafka.TIMEOUT_S).topics[table.topic]
            if topic.error is not None:
                raise kafka.KafkaException(topic.error)
            for p in topic.partitions:
                self._next[table.topic, p] = known.get(p, 0)
        self._consumer.assign([kafka.TopicPartition(t, p, o) for (t, p), o in self._next.items()])

    def _turn(self) -> None:
        deadline = time.monotonic() + BATCH_S
        read = 0
        while read < BATCH_ROWS and (left := deadline - time.monotonic()) > 0 and not self._stop.is_set():
            for message in self._consumer.consume(2_000, min(left, 0.1)):
                self._take(message)
                read += 1
        self._write()

    def _take(self, message: Any) -> None:
        where = (message.topic(), message.partition())
        error = message.error()
        if error is not None:
            if kafka.is_eof(error):
                self._ends[where] = message.offset()
                return
            raise kafka.KafkaException(error)
        offset, value = message.offset(), message.value()
        if offset < self._next[where]:
            return
        self._next[where] = offset + 1
        if value is None:
            return
        table = BY_TOPIC[where[0]]
        try:
            self._rows[table.name].append(_line(table, where[1], offset, message.timestamp()[1], value))
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as e:
            self._bury(message, f"{type(e).__name__}: {e}")

    def _bury(self, message: Any, detail: str) -> None:
        """Poison stops nobody: what is no JSON object goes to the dead letters and the feed goes on."""
        log.warning("unreadable record", topic=message.topic(), partition=message.partition(), offset=message.offset())
        name = topics.dlq(message.topic())
        if name not in topics.TOPICS:
            return
        headers = {
            "rondo-dlq-reason": "unreadable",
            "rondo-dlq-detail": detail[:500],
            "rondo-dlq-topic": message.topic(),
            "rondo-dlq-partition": str(message.partition()),
            "rondo-dlq-offset": str(message.offset()),
            "rondo-dlq-stage": "insights",
        }
        if self._producer is None:
            self._producer = kafka.producer(self._settings.kafka, "insights-dlq")
        self._producer.produce(name, key=message.key(), value=message.value(), headers=headers)
        if self._producer.flush(10):
            raise RuntimeError("the dead letter was not acknowledged")

    def _write(self) -> None:
        for name, lines in self._rows.items():
            if lines:
                self._client.raw_insert(
                    f"{warehouse.DATABASE}.{name}",
                    insert_block=b"\n".join(lines),
                    settings=_ONE_BLOCK | {"date_time_input_format": "best_effort"},
                    fmt="JSONEachRow",
                )
                self.rows += len(lines)
                lines.clear()
        moved = []
        for where, offset in self._next.items():
            end = max(offset, self._ends.get(where, 0))
            if self._written.get(where, -1) < end:
                self._written[where] = end
                moved.append(kafka.TopicPartition(*where, end))
        if moved:
            self._consumer.commit(offsets=moved, asynchronous=True)


def _line(table: Table, partition: int, offset: int, time_ms: int, value: bytes) -> bytes:
    return msgspec.json.encode(table.row(partition, offset, iso(time_ms), value))
