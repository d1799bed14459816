"""`rondo tail`: records of a topic as they lie in the log."""

import json as jsonlib
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rondo_cli import broker, state
from rondo_cli.errors import Failure
from rondo_cli.local.plan import bootstrap_of


def full_name(given: str, there: Iterable[str]) -> str:
    """The topic meant by `given`: as it stands, or with the leading `rondo.` and the `.v1` added.
    Failure with similar names when there is none."""
    names = set(there)
    for name in (given, f"rondo.{given}", f"rondo.{given}.v1", f"{given}.v1"):
        if name in names:
            return name
    near = sorted(n for n in names if given in n)
    raise Failure(f"there is no topic {given!r}" + (f"; did you mean {', '.join(near[:5])}?" if near else ""), 2)


def view(record: Any) -> dict[str, Any]:
    """One record for printing; JSON values are shown as such, others as text."""
    value: Any = None
    if record.value is not None:
        try:
            value = jsonlib.loads(record.value)
        except ValueError:
            value = record.value.decode(errors="replace")
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": at.replace("+00:00", "Z"),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "headers": {k: v.decode(errors="replace") for k, v in record.headers or ()},
        "value": value,
    }


def tail(topic: str, limit: int, follow: bool, key: str | None, json: bool) -> int:
    """Print the last records of each partition, then, with `follow`, new ones as they come."""
    bootstrap = bootstrap_of(state.read())
    for record in _records(bootstrap, topic, limit, follow):
        shown = view(record)
        if key is not None and key not in (shown["key"] or ""):
            continue
        if json:
            print(jsonlib.dumps(shown, ensure_ascii=False))
        else:
            kind = shown["headers"].get("ce_type", "")
            text = jsonlib.dumps(shown["value"], ensure_ascii=False)
            print(f"{shown['partition']}:{shown['offset']} {shown['time']} {shown['key']} {kind} {text}")
        sys.stdout.flush()
    return 0


def _records(bootstrap: str, topic: str, limit: int, follow: bool) -> Iterator[Any]:
    with broker.admin(bootstrap) as client:
        name = full_name(topic, broker.topic_names(client))
        where = broker.all_partitions(client, [name])
        first, end = broker.starts(client, where), broker.ends(client, where)
    found = sorted(
        broker.records(bootstrap, {tp: (max(first[tp], end[tp] - limit), end[tp]) for tp in where}),
        key=lambda r: (r.timestamp, r.partition, r.offset),
    )
    yield from found
    if not follow:
        return
    with broker.consumer(bootstrap) as reader:
        reader.assign(where)
        for tp in where:
            reader.seek(tp, end[tp])
        while True:
            for records in reader.poll(timeout_ms=500).values():
                yield from records
