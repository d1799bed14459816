"""Tables of the warehouse and how a record becomes a row. Pure.

Every table keeps where its rows come from (_topic, _partition, _offset) and the record as it was
(`json`); the other columns are what questions filter and sort by. What goes to the engine is the record as
it came, in RowBinary, and the statement takes the columns out of it: looking into it here cost more than all
the engine does with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from rondo_common import topics
from services.insights.rowbinary import blob, int64, place

_TYPES = {"at": "DateTime64(3, 'UTC')", "version": "UInt32", "attempt": "UInt16"}
_SHORT = frozenset(
    {"workspace", "kind", "name", "campaign", "verdict", "reason", "channel", "status", "segment", "change", "provider",
     "topic", "state", "actor", "class", "lane", "step"}
)  # fmt: skip
ORIGIN = {"_topic": "LowCardinality(String)", "_partition": "UInt16", "_offset": "UInt64"}
_RECORD = {"_partition": "UInt16", "_offset": "UInt64", "time": "Int64", "json": "String"}
"""What is sent of a record: where it stands, the broker's time (ms), its value."""

_whole = msgspec.json.Decoder(msgspec.defstruct("Object", [])).decode
_large = re.compile(rb"[:,\[]\s*-?\d[\d.]*[eE]\+?\d{3}").search
"""Maybe a number beyond all doubles, which decoders that look it over don't see."""


def quoted(types: Mapping[str, str]) -> str:
    """A structure as input() takes it."""
    structure = ", ".join(f"`{c}` {t}" for c, t in types.items()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{structure}'"


def insert(database: str, name: str, columns: Mapping[str, str], source: str) -> str:
    """INSERT of RowBinary that makes each column by an expression."""
    names = ", ".join(f"`{c}`" for c in columns)
    return (
        f"INSERT INTO {database}.{name} ({names}) SELECT {', '.join(columns.values())} FROM {source} FORMAT RowBinary"
    )


@dataclass(frozen=True)
class Table:
    """A table fed by `topic`. `columns` maps a column to the record's field; `at` is always one."""

    name: str
    topic: str
    columns: dict[str, str]

    def types(self) -> dict[str, str]:
        """Columns with their ClickHouse types."""
        own = {c: _TYPES.get(c, "LowCardinality(String)" if c in _SHORT else "String") for c in self.columns}
        return {**ORIGIN, **own, "json": "String"}

    def create(self, database: str) -> str:
        """SQL that makes it, safe to run again."""
        columns = ", ".join(f"`{c}` {t}" for c, t in self.types().items())
        return (
            f"CREATE TABLE IF NOT EXISTS {database}.{self.name} ({columns}) ENGINE = ReplacingMergeTree "
            "ORDER BY (workspace, member_id, at, _topic, _partition, _offset)"
        )

    def insert(self, database: str) -> str:
        """SQL that takes rows. The engine reads the records, each once; the broker's time stands in where one
        names no instant that can be read: one such must not stop the whole block."""
        fields = {c: "UInt32" if c in ("version", "attempt") else "String" for c in self.columns}
        wanted = ", ".join(f"`{self.columns[c]}` {t}" for c, t in fields.items())
        columns = {"_topic": f"'{self.topic}'", "_partition": "_partition", "_offset": "_offset"}
        columns |= {c: f"record.{n}" for n, c in enumerate(self.columns, 1)}
        columns["at"] = (
            f"ifNull(parseDateTime64BestEffortOrNull({columns['at']}, 3, 'UTC'), fromUnixTimestamp64Milli(time, 'UTC'))"
        )
        columns["json"] = "json"
        read = f"SELECT *, JSONExtract(json, 'Tuple({wanted})') AS record FROM input({quoted(_RECORD)})"
        return insert(database, self.name, columns, f"({read})")

    def row(self, partition: int, offset: int, time: int, value: bytes) -> bytes:
        """The row of a record that came at `time` (ms)."""
        return place(partition, offset) + int64(time) + blob(value)


def check(value: bytes) -> None:
    """DecodeError, UnicodeDecodeError or RecursionError for what is no JSON object, or one that the engine can't read."""
    str(value, "utf-8")
    _whole(value)
    if _large(value):
        msgspec.json.decode(value)


def _same(*names: str, at: str = "timestamp") -> dict[str, str]:
    return {"workspace": "workspace", "member_id": "member_id", "at": at, **{n: n for n in names}}


TABLES: tuple[Table, ...] = (
    Table("member_events", topics.MEMBER_EVENTS, _same("kind", "name", "id", "event_id")),
    Table("decisions", topics.DECISIONS, _same(
        "decision_id", "touch_id", "campaign", "run_id", "channel", "verdict", "reason", "attempt", "version",
        "class", "lane", "topic", at="decided_at")),
    Table("deliveries", topics.DELIVERIES, _same(
        "id", "touch_id", "campaign", "run_id", "channel", "provider", "status", "reason", "attempt", at="at")),
    Table("engagement", topics.ENGAGEMENT, _same(
        "id", "kind", "actor", "touch_id", "campaign", "run_id", "channel", at="at")),
    Table("membership_changes", topics.MEMBERSHIP_CHANGES, _same("id", "segment", "change", "version", at="at")),
    Table("consents", topics.CONSENTS, _same("id", "channel", "topic", "state")),
    Table("conversations", topics.COMMUNITY, _same("id", "kind", "conversation_id", "channel", at="at")),
    Table("contacts", topics.CONTACTS, _same("user_id", "merged_into", at="created_at")),
    Table("profiles", topics.PROFILES, _same("user_id", "merged_into", at="updated_at")),
    Table("memberships", topics.MEMBERSHIPS, _same(at="at")),
    Table("runs", topics.RUNS, {"workspace": "workspace", "member_id": "member_id", "at": "started_at",
                                "run_id": "run_id", "campaign": "campaign", "status": "status"}),
    Table("audit", topics.AUDIT, {"workspace": "workspace", "member_id": "member_id", "at": "at", "actor": "actor",
                                  "id": "id", "action": "action"}),
)  # fmt: skip
