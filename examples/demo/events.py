"""The file and the people as Segment events."""

import csv
import gzip
from datetime import UTC, date, datetime, timedelta
from typing import Any

from examples.demo.content import ORDER
from examples.demo.people import Person


def rows(path: str) -> list[tuple[int, str, date, int, float]]:
    """(line number, customer, day, number of CDs, dollars)."""
    with gzip.open(path, "rt") as f:
        next(f)
        parsed = csv.reader((" ".join(line.split()) for line in f), delimiter=" ")
        return [
            (n, r[0], datetime.strptime(r[1], "%Y%m%d").date(), int(r[2]), float(r[3]))
            for n, r in enumerate(parsed, 2)
            if r
        ]


def purchases(found: list[tuple[int, str, date, int, float]], last_day: date) -> list[dict[str, Any]]:
    """One event a line, at 12:00 UTC, shifted so that the last day of the file is `last_day`. Ids are line
    numbers: 255 lines are exact repeats of others and still purchases of their own."""
    shift = last_day - max(r[2] for r in found)
    return [
        {
            "type": "track",
            "event": ORDER,
            "messageId": f"cdnow-{line}",
            "userId": f"c{customer}",
            "timestamp": f"{(day + shift).isoformat()}T12:00:00Z",
            "properties": {"order_id": f"o{line}", "total": total, "quantity": quantity},
            "context": {"historical": True},
        }
        for line, customer, day, quantity, total in found
    ]


def introductions(people: list[Person]) -> list[dict[str, Any]]:
    """An identify and the consents of each person."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    out: list[dict[str, Any]] = []
    for p in people:
        common = {
            "userId": p.user_id,
            "timestamp": at.isoformat().replace("+00:00", "Z"),
            "context": {"historical": True},
        }
        out.append({"type": "identify", "messageId": f"id-{p.customer}", "traits": p.traits(), **common})
        for (channel, topic), state in p.consents.items():
            properties = {
                "channel": channel,
                "topic": topic,
                "state": state,
                "text_version": "2026-01",
                "source": "demo",
            }
            name = "all" if topic == "*" else topic
            out.append({"type": "track", "event": "Consent Changed", "messageId": f"co-{p.customer}-{channel}-{name}",
                        "properties": properties, **common})  # fmt: skip
    return out
