"""Feeding the tables, exactly once.

The position is in the warehouse itself: the highest _offset of each partition in a table. A batch is one
INSERT of one table, and one INSERT is one block, so it is in the table whole or not at all; after a kill
the position read back says where to go on. Several partitions may share the block, each has its own
position in it. Several tables may read one topic: it is read from the lowest position, and each table
takes what lies beyond its own, so a new table on an old folder fills from the log's beginning. `facts`
is made by the engine out of `member_events`, behind it (see `facts`). The group's committed offsets
follow behind, for the eye only (lag).
"""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from rondo_common import ids, kafka, telemetry, topics, warehouse
from rondo_common.clock import iso
from rondo_common.settings import Settings
from services.insights import facts
from services.insights.tables import TABLES, Table

GROUP = "rondo.insights"
BATCH_ROWS = 20_000
BATCH_S, LONGEST_S = 0.5, 2.0
"""A batch is written when so much time has passed or so many rows wait. An INSERT costs tens of milliseconds
for each table whatever it holds, so while many rows come they are gathered longer, up to LONGEST_S."""
FULL_RATE = 5_000
"""Rows a second at which a batch takes LONGEST_S."""
_ONE_BLOCK = {
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 1_000_000_000,
}

_EVENTS = topics.MEMBER_EVENTS

log = telemetry.logger(__name__)


def gathering(rows: int, seconds: float) -> float:
    """Seconds to gather the next batch in, after one of so many rows that took so long."""
    rate = rows / max(seconds, 0.1)
    return max(BATCH_S, min(LONGEST_S, LONGEST_S * rate / FULL_RATE))


class Feed:
    """Reads the topics of all tables and writes rows. One thread; `run` until `stop`."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._stop = threading.Event()
        self._client: Any = None
        self._consumer: Any = None
        self._producer: Any = None
        secret = settings.secret
        self._tables: tuple[Table | facts.People, ...] = (
            *TABLES,
            facts.People(lambda workspace: ids.workspace_secret(secret, workspace)),
        )
        self._by_topic: dict[str, list[Table | facts.People]] = defaultdict(list)
        for table in self._tables:
            self._by_topic[table.topic].append(table)
        self._rows: dict[str, list[bytes]] = defaultdict(list)
        self._have: dict[tuple[str, int], int] = {}
        self._facts: dict[int, int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._written: dict[tuple[str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._state = "starting"
        self._gather_s = BATCH_S
        self.rows = 0
        """Rows written since the start."""

    def ready(self) -> tuple[bool, str]:
        """Whether rows are being written."""
        return (self._state == "running", self._state)

    def behind(self, ends: Mapping[tuple[str, int], int]) -> int:
        """How many records of the log before `ends`, by (topic, partition), no table shows yet."""
        written = self._written
        return sum(max(0, end - written.get(where, 0)) for where, end in ends.items() if where[0] in self._by_topic)

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
        for table in self._tables:
            self._client.command(table.create(warehouse.DATABASE))
        self._client.command(facts.CREATE_FACTS.format(db=warehouse.DATABASE))
        self._client.command(facts.INDEX_OFFSETS.format(db=warehouse.DATABASE))
        self._consumer = kafka.reader(self._settings.kafka, GROUP)
        self._rows.clear()
        self._next.clear()
        self._have.clear()
        self._written.clear()
        for table in self._tables:
            found = self._client.query(
                f"SELECT _partition, max(_offset) FROM {warehouse.DATABASE}.{table.name} "
                f"WHERE _topic = '{table.topic}' GROUP BY _partition"
            ).result_rows
            known = {int(p): int(o) + 1 for p, o in found}
            topic = self._consumer.list_topics(table.topic, timeout=kafka.TIMEOUT_S).topics[table.topic]
            if topic.error is not None:
                raise kafka.KafkaException(topic.error)
            for p in topic.partitions:
                have = self._have[table.name, p] = known.get(p, 0)
                self._next[table.topic, p] = min(have, self._next.get((table.topic, p), have))
        made = self._client.query(f"SELECT _partition, max(_offset) + 1 FROM {warehouse.DATABASE}.facts GROUP BY 1")
        self._facts = {int(p): int(o) for p, o in made.result_rows}
        self._derive()
        self._consumer.assign([kafka.TopicPartition(t, p, o) for (t, p), o in self._next.items()])

    def _turn(self) -> None:
        began, passed, read = time.monotonic(), 0.0, 0
        while read < BATCH_ROWS and not self._stop.is_set():
            messages = self._consumer.consume(2_000, 0.1)
            for message in messages:
                self._take(message)
            read += len(messages)
            passed = time.monotonic() - began
            if passed >= self._gather_s or (passed >= BATCH_S and not messages):
                break
        self._gather_s = gathering(read, passed)
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
        try:
            for table in self._by_topic[where[0]]:
                if offset >= self._have[table.name, where[1]]:
                    row = table.row(where[1], offset, iso(message.timestamp()[1]), value)
                    if row is not None:
                        self._rows[table.name].append(msgspec.json.encode(row))
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
        self._derive()
        moved = []
        for where, offset in self._next.items():
            end = max(offset, self._ends.get(where, 0))
            if self._written.get(where, -1) < end:
                self._written[where] = end
                moved.append(kafka.TopicPartition(*where, end))
        if moved:
            self._consumer.commit(offsets=moved, asynchronous=True)

    def _derive(self) -> None:
        """Bring `facts` up to where `member_events` is."""
        while spans := {
            p: (done, min(end, done + facts.STEP))
            for p, end in self._events_written().items()
            if (done := self._facts.get(p, 0)) < end
        }:
            self._client.command(facts.derive(warehouse.DATABASE, spans), settings=dict(facts.SETTINGS))
            for p, (_, end) in spans.items():
                self._facts[p] = end

    def _events_written(self) -> dict[int, int]:
        return {p: max(o, self._have["member_events", p]) for (t, p), o in self._next.items() if t == _EVENTS}
