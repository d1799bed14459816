"""Feeding the tables, exactly once.

The position is in the warehouse itself: the highest _offset of each partition in a table. A batch is one
INSERT of one table, and one INSERT is one block, so it is in the table whole or not at all; after a kill
the position read back says where to go on. Several partitions may share the block, each has its own
position in it. Several tables may read one topic: it is read from the lowest position, and each table
takes what lies beyond its own, so a new table on an old folder fills from the log's beginning. `facts`
is made by the engine out of `member_events`, behind it (see `facts`), and seldom: a statement that makes them
costs 30 ms before the first row, and only previews read them, which ask to `hurry`. The group's committed
offsets follow behind, for the eye only (lag), and don't wait for `facts`.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from clickhouse_connect.driver.exceptions import DatabaseError

from rondo_common import ids, kafka, telemetry, topics, warehouse
from rondo_common.settings import Settings
from services.insights import facts
from services.insights.dead_letters import DeadLetters
from services.insights.engine import EngineLost
from services.insights.reader import LogReader
from services.insights.tables import TABLES, Table, check

GROUP = "rondo.insights"
BATCH_S, LONGEST_S = 0.5, 1.0
"""A topic's rows are written when the first has waited so long. An INSERT costs the engine 4 to 8 ms for each
table whatever it holds, so while many rows come they are gathered longer, up to LONGEST_S."""
LATE_S = 3.0
"""On a machine that is busy writing takes long whatever it writes: reading takes as long then, up to this."""
FULL_RATE = 2_000
"""Rows a second at which they wait LONGEST_S."""
ENOUGH = 2_000
"""Rows of a topic that need not wait longer than BATCH_S: as many share an INSERT's cost well."""
MOST_ROWS, MOST_BYTES = 20_000, 64 << 20
"""A turn reads so much at most; the engine's door takes 256 MiB at once."""
FACTS_ROWS, FACTS_S = 10_000, 5.0
"""Facts are made of so many events at once, or when the first of them has waited so long."""
_SETTINGS = dict(facts.SETTINGS)

log = telemetry.logger(__name__)

_EVENTS = topics.MEMBER_EVENTS
Fed = Table | facts.People


def gathering(rows: int, seconds: float) -> float:
    """Seconds for which few rows of a topic may wait, after a turn of so many rows that took so long."""
    rate = rows / max(seconds, 0.1)
    return max(BATCH_S, min(LONGEST_S, LONGEST_S * rate / FULL_RATE))


class Feed:
    """Reads the topics of all tables and writes rows. One thread; `run` until `stop`."""

    def __init__(self, settings: Settings, reopen: Callable[[], None] | None = None):
        """`reopen` opens the engine's folder anew, where it is in this process."""
        self._settings = settings
        self._reopen = reopen
        self._damaged = False
        self._failing_since: float | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._client: Any = None
        self._reader: LogReader | None = None
        self._dead = DeadLetters(settings.kafka)
        secret = settings.secret
        self._tables: tuple[Fed, ...] = (
            *TABLES,
            facts.People(lambda workspace: ids.workspace_secret(secret, workspace)),
        )
        self._by_topic: dict[str, list[Fed]] = defaultdict(list)
        for table in self._tables:
            self._by_topic[table.topic].append(table)
        self._inserts = {table.name: table.insert(warehouse.DATABASE) for table in self._tables}
        self._rows: dict[str, list[bytes]] = {table.name: [] for table in self._tables}
        self._bytes = 0
        """What `_rows` hold, about."""
        self._since: dict[str, float] = {}
        """When the first row came that waits, by topic."""
        self._have: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._facts: dict[int, int] = {}
        self._owed = 0
        """Rows of member_events of which no facts are made yet, and since when."""
        self._owed_since = 0.0
        self._shown: dict[tuple[str, int], int] = {}
        """How far the tables show the log ..."""
        self._written: dict[tuple[str, int], int] = {}
        """... and how far all of them do, `facts` too."""
        self._state = "starting"
        self._read = 0
        self._gather_s = BATCH_S
        self._wrote_s = 0.0
        self.rows = 0
        """Rows written since the start."""

    def ready(self) -> tuple[bool, str]:
        """Whether rows are being written."""
        return (self._state == "running", self._state)

    def behind(self, ends: Mapping[tuple[str, int], int]) -> int:
        """How many records of the log before `ends`, by (topic, partition), no table shows yet."""
        written = self._written
        return sum(max(0, end - written.get(where, 0)) for where, end in ends.items() if where[0] in self._by_topic)

    def hurry(self) -> None:
        """Write what is there without gathering more: somebody waits for it."""
        self._hurry.set()

    def stop(self) -> None:
        self._stop.set()
        self._hurry.set()

    def run(self) -> None:
        """Until `stop`: connect, take up the positions, read and write. Trouble is tried again."""
        while not self._stop.is_set():
            try:
                reader = self._open()
                self._state = "running"
                while not self._stop.is_set():
                    self._turn(reader)
            except EngineLost:
                log.error("the engine does not open its folder; another process has to")
                raise
            except Exception as e:
                self._trouble(e)
                self._stop.wait(1.0)
            finally:
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
        self._state = "stopped"

    def _trouble(self, e: Exception) -> None:
        """Say what is wrong. An engine that refuses a statement may have a damaged part (a full disk leaves some),
        so its folder is opened anew before the next try."""
        self._state = f"the warehouse is not fed: {type(e).__name__}, see the log; tried again every second"
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        log.warning(
            "the warehouse is not fed; positions are read again in 1 s",
            error=str(e)[:500],
            failing_s=round(time.monotonic() - self._failing_since, 1),
        )
        self._damaged = self._damaged or isinstance(e, DatabaseError)

    def _fed(self) -> None:
        if self._failing_since is not None:
            log.info("the warehouse is fed again", after_s=round(time.monotonic() - self._failing_since, 1))
            self._failing_since = None

    def _open(self) -> LogReader:
        if self._damaged and self._reopen is not None:
            self._reopen()
        self._damaged = False
        self._client = warehouse.connect(self._settings.url_warehouse)
        self._client.command(f"CREATE DATABASE IF NOT EXISTS {warehouse.DATABASE}")
        for table in self._tables:
            self._client.command(table.create(warehouse.DATABASE))
        self._client.command(facts.CREATE_FACTS.format(db=warehouse.DATABASE))
        self._client.command(facts.INDEX_OFFSETS.format(db=warehouse.DATABASE))
        reader = self._reader = LogReader(self._settings.kafka, GROUP)
        for rows in self._rows.values():
            rows.clear()
        for known in (self._since, self._next, self._have, self._shown, self._written):
            known.clear()
        for table in self._tables:
            positions = self._positions(table.name)
            for p in reader.partitions(table.topic):
                have = self._have[table.name, p] = positions.get(p, 0)
                self._next[table.topic, p] = min(have, self._next.get((table.topic, p), have))
        self._facts = self._positions("facts")
        self._derive()
        reader.assign(self._next)
        return reader

    def _positions(self, table: str) -> dict[int, int]:
        found = self._client.query(
            f"SELECT _partition, max(_offset) + 1 FROM {warehouse.DATABASE}.{table} GROUP BY _partition"
        )
        return {int(p): int(o) for p, o in found.result_rows}

    def _turn(self, reader: LogReader) -> None:
        """Wait while rows gather, read a round, then write the topics of which much waits, or some for long."""
        waited = began = time.monotonic()
        if not reader.amid:
            self._hurry.wait(max(BATCH_S, min(LATE_S, self._wrote_s)))
            began = time.monotonic()
        hurried = self._hurry.is_set()
        self._hurry.clear()  # who asks from here on may want what comes after this round
        before, last = self._read, began + LATE_S
        reader.round(
            self._take,
            lambda: (
                self._read - before < MOST_ROWS
                and self._bytes < MOST_BYTES
                and time.monotonic() < last
                and not self._stop.is_set()
            ),
        )
        read, began = self._read - before, time.monotonic()
        self._gather_s = gathering(read, began - waited)
        everything = hurried or self._bytes >= MOST_BYTES
        due = began - self._gather_s + BATCH_S / 2
        for topic, tables in self._by_topic.items():
            since = self._since.get(topic)
            many = len(self._rows[tables[0].name]) >= ENOUGH
            if since is None or everything or many or since <= due:
                self._write(topic, tables, reader)
        self._bytes = sum(len(row) for rows in self._rows.values() for row in rows)
        late = time.monotonic() - self._owed_since >= FACTS_S
        if self._owed and (hurried or not read or late or self._owed >= FACTS_ROWS):
            self._derive()
        self._wrote_s = time.monotonic() - began

    def _take(self, message: Any) -> None:
        topic, partition = message.topic(), message.partition()
        where = (topic, partition)
        self._read += 1
        offset, value = message.offset(), message.value()
        if offset < self._next[where]:
            return
        self._next[where] = offset + 1
        if value is None:
            return
        self._bytes += len(value)
        try:
            check(value)
            for table in self._by_topic[topic]:
                if offset >= self._have[table.name, partition]:
                    row = table.row(partition, offset, message.timestamp()[1], value)
                    if row is not None:
                        self._rows[table.name].append(row)
                        if topic not in self._since:
                            self._since[topic] = time.monotonic()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            self._dead.put(message, f"{type(e).__name__}: {e}")

    def _write(self, topic: str, tables: list[Fed], reader: LogReader) -> None:
        """Write all that waits of a topic; then it is written as far as it has been read."""
        for table in tables:
            if rows := self._rows[table.name]:
                self._client.command(self._inserts[table.name], data=b"".join(rows), settings=_SETTINGS)
                self.rows += len(rows)
                self._fed()
                if table.topic == _EVENTS:
                    self._owed_since = self._owed_since if self._owed else time.monotonic()
                    self._owed += len(rows)
                rows.clear()
        self._since.pop(topic, None)
        moved = []
        for where, offset in self._next.items():
            if where[0] == topic:
                end = max(offset, reader.ends.get(where, 0))
                if self._shown.get(where, -1) < end:
                    self._shown[where] = end
                    moved.append(kafka.TopicPartition(*where, end))
        if topic != _EVENTS or not self._owed:
            self._settle(topic)
        if moved:
            reader.commit(moved)

    def _settle(self, topic: str) -> None:
        self._written.update({where: end for where, end in self._shown.items() if where[0] == topic})

    def _derive(self) -> None:
        """Bring `facts` up to where `member_events` is."""
        events = {
            p: max(self._shown.get((_EVENTS, p), 0), have)
            for (t, p), have in self._have.items()
            if t == "member_events"
        }
        while spans := {
            p: (done, min(end, done + facts.STEP)) for p, end in events.items() if (done := self._facts.get(p, 0)) < end
        }:
            self._client.command(facts.derive(warehouse.DATABASE, spans), settings=_SETTINGS)
            for p, (_, end) in spans.items():
                self._facts[p] = end
        self._owed = 0
        self._settle(_EVENTS)
