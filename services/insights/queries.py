"""Questions to the warehouse. Each is one statement with bound parameters."""

import base64
from typing import Any

import msgspec

from rondo_common import warehouse
from rondo_common.clock import iso
from rondo_common.problems import Problem, invalid
from rondo_common.warehouse import Warehouse

MAX_PAGE = 500
_DB = warehouse.DATABASE

_TIMELINE = (
    ("member_events", "kind", "json"),
    ("decisions", "concat('decision.', verdict)", "json"),
    ("deliveries", "concat('delivery.', status)", "json"),
    ("engagement", "concat('message.', kind)", "json"),
    ("membership_changes", "concat('segment.', change)", "json"),
    ("conversations", "kind", "json"),
)


def _cursor(text: str) -> tuple[int, str, int, int]:
    try:
        at, table, partition, offset = msgspec.json.decode(base64.urlsafe_b64decode(text))
        return int(at), str(table), int(partition), int(offset)
    except (ValueError, TypeError, msgspec.DecodeError) as e:
        raise Problem(422, "invalid-request", "The cursor is not one of ours",
                      errors=[invalid("/cursor", "invalid", "use next_cursor")]) from e  # fmt: skip


def _to_cursor(*row: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(row)).decode()


def timeline(db: Warehouse, workspace: str, members: list[str], cursor: str, limit: int) -> tuple[list[Any], str]:
    """(entries newest first, next cursor). An entry: at, kind, source table, data."""
    limit = max(1, min(limit or 100, MAX_PAGE))
    parameters: dict[str, Any] = {"w": workspace, "m": members, "n": limit + 1}
    after = ""
    if cursor:
        at, table, partition, offset = _cursor(cursor)
        parameters |= {"at": at, "t": table, "p": partition, "o": offset}
        after = (
            "WHERE (at, source, _partition, _offset) < "
            "(fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {t:String}, {p:UInt16}, {o:UInt64})"
        )
    parts = " UNION ALL ".join(
        f"SELECT at, '{name}' AS source, _partition, _offset, {kind} AS kind, {body} AS json FROM {_DB}.{name} FINAL "
        "WHERE workspace = {w:String} AND member_id IN {m:Array(String)}"
        for name, kind, body in _TIMELINE
    )
    found = db.rows(
        f"SELECT toUnixTimestamp64Milli(at), source, _partition, _offset, kind, json FROM ({parts}) {after} "
        "ORDER BY at DESC, source DESC, _partition DESC, _offset DESC LIMIT {n:UInt32}",
        parameters,
    )
    following = _to_cursor(*found[limit - 1][:4]) if len(found) > limit else ""
    entries = [
        {"at": iso(r[0]), "kind": r[4], "source": r[1], "data": msgspec.Raw(r[5].encode())} for r in found[:limit]
    ]
    return entries, following


def decisions(
    db: Warehouse, workspace: str, members: list[str], campaign: str, cursor: str, limit: int
) -> tuple[list[Any], str]:
    """(decisions as recorded, newest first, next cursor)."""
    limit = max(1, min(limit or 100, MAX_PAGE))
    parameters: dict[str, Any] = {"w": workspace, "m": members, "n": limit + 1, "c": campaign}
    more = " AND campaign = {c:String}" if campaign else ""
    if cursor:
        at, _, partition, offset = _cursor(cursor)
        parameters |= {"at": at, "p": partition, "o": offset}
        more += " AND (at, _partition, _offset) < (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {p:UInt16}, {o:UInt64})"
    found = db.rows(
        f"SELECT toUnixTimestamp64Milli(at), _partition, _offset, json FROM {_DB}.decisions FINAL "
        "WHERE workspace = {w:String} AND member_id IN {m:Array(String)}" + more +
        " ORDER BY at DESC, _partition DESC, _offset DESC LIMIT {n:UInt32}",
        parameters,
    )  # fmt: skip
    following = _to_cursor(found[limit - 1][0], "", *found[limit - 1][1:3]) if len(found) > limit else ""
    return [msgspec.Raw(r[3].encode()) for r in found[:limit]], following


def decision(db: Warehouse, workspace: str, members: list[str], campaign: str, touch: str, at: int) -> bytes:
    """The newest decision at or before `at` (ms), as recorded; empty when there is none."""
    parameters = {"w": workspace, "m": members, "c": campaign, "t": touch, "at": at}
    more = " AND touch_id = {t:String}" if touch else ""
    found = db.rows(
        f"SELECT json FROM {_DB}.decisions FINAL WHERE workspace = {{w:String}} AND member_id IN {{m:Array(String)}} "
        "AND campaign = {c:String} AND at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC')" + more +
        " ORDER BY at DESC, attempt DESC LIMIT 1",
        parameters,
    )  # fmt: skip
    return found[0][0].encode() if found else b""


def run_outcomes(db: Warehouse, workspace: str, run_id: str) -> dict[str, Any]:
    """Decisions by verdict and reason, deliveries by status, each touch counted by its newest record."""
    parameters = {"w": workspace, "r": run_id}
    decided = db.rows(
        f"SELECT verdict, reason, count() FROM (SELECT touch_id, argMax(verdict, (attempt, at)) AS verdict, "
        f"argMax(reason, (attempt, at)) AS reason FROM {_DB}.decisions FINAL WHERE workspace = {{w:String}} "
        "AND run_id = {r:String} GROUP BY touch_id) GROUP BY verdict, reason ORDER BY verdict, reason",
        parameters,
    )
    delivered = db.rows(
        f"SELECT status, uniqExact(touch_id) FROM {_DB}.deliveries FINAL WHERE workspace = {{w:String}} "
        "AND run_id = {r:String} GROUP BY status ORDER BY status",
        parameters,
    )
    verdicts: dict[str, dict[str, int]] = {}
    for verdict, reason, count in decided:
        verdicts.setdefault(verdict, {})[reason or "-"] = int(count)
    return {"run_id": run_id, "decisions": verdicts, "deliveries": {s: int(n) for s, n in delivered}}
