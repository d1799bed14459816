#!/usr/bin/env python3
"""Counts the demo's segments again, with csv and sqlite3 alone. Imports nothing of Rondo.

    recount.py FILE LAST_DAY AS_OF      e.g. recount.py CDNOW_master.txt.gz 2026-11-20 2026-11-21T08:00:00Z

Dates are shifted so that the last purchase falls on LAST_DAY; each is at 12:00 UTC. Prints JSON:
how many members each segment has at AS_OF, and their ids under "members" with --members.
"""

import csv
import gzip
import json
import sqlite3
import sys
from datetime import UTC, datetime, timedelta

DAY = 86_400_000

QUERIES = {
    "first-time": "SELECT customer FROM p WHERE at <= :at GROUP BY customer HAVING count(*) = 1",
    "loyal": "SELECT customer FROM p WHERE at > :at - 90 * :day AND at <= :at GROUP BY customer HAVING count(*) >= 3",
    "lapsing": "SELECT customer FROM p WHERE at <= :at GROUP BY customer HAVING count(*) >= 2 AND max(at) < :at - 180 * :day",
    "high-value": "SELECT customer FROM p WHERE at <= :at GROUP BY customer HAVING sum(cents) > 25000",
}


def load(path: str, last_day: str) -> sqlite3.Connection:
    """The purchases as table p(customer, at in ms, cents)."""
    with gzip.open(path, "rt") as f:
        next(f)
        rows = [r for r in csv.reader((" ".join(line.split()) for line in f), delimiter=" ") if r]
    days = [datetime.strptime(r[1], "%Y%m%d").replace(tzinfo=UTC) for r in rows]
    shift = datetime.fromisoformat(last_day).replace(tzinfo=UTC) - max(days) + timedelta(hours=12)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE p (customer TEXT, at INTEGER, cents INTEGER)")
    db.executemany(
        "INSERT INTO p VALUES (?, ?, ?)",
        [
            (r[0], int((d + shift).timestamp() * 1000), round(float(r[3]) * 100))
            for r, d in zip(rows, days, strict=True)
        ],
    )
    return db


def members(path: str, last_day: str, as_of: str) -> dict[str, list[str]]:
    """Customers in each segment at `as_of`."""
    db = load(path, last_day)
    at = int(datetime.fromisoformat(as_of).timestamp() * 1000)
    return {name: sorted(r[0] for r in db.execute(q, {"at": at, "day": DAY})) for name, q in QUERIES.items()}


if __name__ == "__main__":
    found = members(*sys.argv[1:4])
    print(json.dumps(found if "--members" in sys.argv else {k: len(v) for k, v in found.items()}))
