"""Tables of the warehouse and how a record becomes a row. Pure.

Every table keeps where its rows come from (_topic, _partition, _offset) and the record as it was
(`json`); the other columns are what questions filter and sort by.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import from_iso

_TYPES = {"at": "DateTime64(3, 'UTC')", "version": "UInt32", "attempt": "UInt16"}
_SHORT = frozenset(
    {"workspace", "kind", "name", "campaign", "verdict", "reason", "channel", "status", "segment", "change", "provider",
     "topic", "state", "actor", "class", "lane", "step"}
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table fed by `topic`. `columns` maps a column to the record's field; `at` is always one."""

    name: str
    topic: str
    columns: dict[str, str]

    def types(self) -> dict[str, str]:
        """Columns with their ClickHouse types."""
        own = {c: _TYPES.get(c, "LowCardinality(String)" if c in _SHORT else "String") for c in self.columns}
        return {
            "_topic": "LowCardinality(String)",
            "_partition": "UInt16",
            "_offset": "UInt64",
            **own,
            "json": "String",
        }

    def create(self, database: str) -> str:
        """SQL that makes it, safe to run again."""
        columns = ", ".join(f"`{c}` {t}" for c, t in self.types().items())
        return (
            f"CREATE TABLE IF NOT EXISTS {database}.{self.name} ({columns}) ENGINE = ReplacingMergeTree "
            "ORDER BY (workspace, member_id, at, _topic, _partition, _offset)"
        )

    def row(self, partition: int, offset: int, time: str, value: bytes) -> dict[str, Any]:
        """The row of a record. `time` (RFC 3339) stands in where the record names no instant."""
        record = msgspec.json.decode(value)
        row = {column: record.get(field) for column, field in self.columns.items()}
        for column, found in row.items():
            if found is None or (column == "at" and not _instant(found)):
                row[column] = time if column == "at" else 0 if column in _TYPES else ""
            elif column not in _TYPES and not isinstance(found, str):
                row[column] = str(found)
        return {"_topic": self.topic, "_partition": partition, "_offset": offset, **row, "json": value.decode()}


def _instant(found: Any) -> bool:
    """Whether a record's time can be read: one that can't must not stop the whole block."""
    try:
        from_iso(found)
    except (ValueError, TypeError):
        return False
    return True


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
