"""The rows of a time range in a temporary SQLite file: any number of ids, little memory."""

import sqlite3
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rondo_cli.audit.facts import Row

_PLACE = ("topic", "partition", "at_offset", "time")
TABLES: dict[str, tuple[str, ...]] = {
    "accepted": ("id",),
    "event": ("workspace", "sender", "id", "type", "mark_key", "mark", *_PLACE),
    "rejected": ("workspace", "id", *_PLACE),
    "routed": ("workspace", "id", *_PLACE),
    "effect": ("workspace", "id", "kind", "effect_id", *_PLACE),
    "touch": ("workspace", "touch_id", *_PLACE),
    "decision": ("workspace", "touch_id", "attempt", "verdict", "decision_id", *_PLACE),
    "send": ("workspace", "touch_id", "attempt", *_PLACE),
    "delivery": ("workspace", "touch_id", "attempt", "status", "id", *_PLACE),
    "dead": ("source", "source_partition", "source_offset", "reason", *_PLACE),
    "unreadable": ("detail", *_PLACE),
    "committed": ("grp", "topic", "partition", "at_offset"),
    "agenda": ("touch_id",),
    "open_send": ("touch_id", "status"),
    "mark_seen": ("mark_key", "mark", "since"),
}
_INDEXES = (
    ("accepted", "id"), ("event", "id, workspace, sender"), ("event", "mark_key"), ("rejected", "id"),
    ("routed", "id, workspace"), ("effect", "id, workspace, kind"), ("touch", "touch_id"),
    ("decision", "touch_id, attempt"), ("send", "touch_id, attempt"), ("delivery", "touch_id, attempt"),
    ("dead", "source, source_partition, source_offset"), ("committed", "grp, topic, partition"),
    ("agenda", "touch_id"), ("open_send", "touch_id"), ("mark_seen", "mark_key, mark"),
)  # fmt: skip
BATCH = 5_000


class Ledger:
    """Write rows, `seal`, then ask. Gone when closed."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")  # a file of SQLite's own, deleted with the connection
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=OFF")
        for table, columns in TABLES.items():
            self._db.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        self._waiting: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._db.close()

    def add(self, row: Row) -> None:
        waiting = self._waiting[row.table]
        waiting.append(row.values)
        if len(waiting) >= BATCH:
            self._flush(row.table)

    def extend(self, table: str, values: Iterable[tuple[Any, ...]]) -> None:
        for one in values:
            self.add(Row(table, one))

    def _flush(self, table: str) -> None:
        marks = ", ".join("?" * len(TABLES[table]))
        self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", self._waiting[table])
        self._waiting[table].clear()

    def seal(self) -> None:
        """Everything is in, or in after it was sealed before."""
        for table in TABLES:
            self._flush(table)
        for number, (table, columns) in enumerate(_INDEXES):
            self._db.execute(f"CREATE INDEX IF NOT EXISTS by_{number} ON {table} ({columns})")
        self._db.execute("ANALYZE")

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._db.execute(question, values).fetchall()

    def each(self, question: str, *values: Any) -> Iterable[tuple[Any, ...]]:
        return self._db.execute(question, values)

    def one(self, question: str, *values: Any) -> int:
        """A count."""
        return int(self._db.execute(question, values).fetchone()[0])
