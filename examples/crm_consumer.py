#!/usr/bin/env python3
"""A CRM that follows Rondo: reads rondo.crm.events.v1 with kafka-python, keeps two SQLite tables in step.

    python examples/crm_consumer.py --kafka 127.0.0.1:29092 --db crm.sqlite [--until-idle 3]

contacts: one row a member (user id, segments it is in, newest consent per channel and topic).
messages: one row a message (campaign, channel, newest status).
The offsets live in the same database and move in the same transaction as the rows, so a kill at any
moment neither loses nor repeats an event; events of one member come in order; ce_id names each.
"""

import argparse
import json
import sqlite3
import time

from kafka import KafkaConsumer, TopicPartition

TOPIC = "rondo.crm.events.v1"
RANK = {s: n for n, s in enumerate(("deferred", "skipped", "failed", "unknown", "sent", "delivered", "opened", "clicked",
                                    "unsubscribed", "bounced", "complained"))}  # fmt: skip
"""A message's status only rises: a callback may overtake what it answers."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS contacts (member_id TEXT PRIMARY KEY, user_id TEXT, traits TEXT DEFAULT '{}');
CREATE TABLE IF NOT EXISTS segments (member_id TEXT, segment TEXT, PRIMARY KEY (member_id, segment));
CREATE TABLE IF NOT EXISTS consents (member_id TEXT, channel TEXT, topic TEXT, state TEXT,
                                     PRIMARY KEY (member_id, channel, topic));
CREATE TABLE IF NOT EXISTS messages (touch_id TEXT PRIMARY KEY, member_id TEXT, campaign TEXT, channel TEXT,
                                     status TEXT, reason TEXT, at TEXT, sent INTEGER DEFAULT 0, rank INTEGER);
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER);
"""


def apply(db: sqlite3.Connection, event: dict) -> None:
    """One event into the tables. Unknown types are left alone: new ones may come."""
    kind, data, member = event["type"], event["data"], event["data"].get("member_id")
    if kind in ("member.created", "member.updated"):
        row = db.execute("SELECT traits FROM contacts WHERE member_id = ?", (member,)).fetchone()
        traits = {**json.loads(row[0] if row else "{}"), **data.get("traits", {})}
        db.execute(
            "INSERT INTO contacts VALUES (?, ?, ?) ON CONFLICT (member_id) DO UPDATE SET "
            "user_id = coalesce(excluded.user_id, user_id), traits = excluded.traits",
            (member, data.get("user_id"), json.dumps({k: v for k, v in traits.items() if v is not None})),
        )
    elif kind == "member.merged":
        db.execute("DELETE FROM contacts WHERE member_id = ?", (data.get("merged_from"),))
    elif kind == "segment.entered":
        db.execute("INSERT OR IGNORE INTO segments VALUES (?, ?)", (member, data["segment"]))
    elif kind == "segment.left":
        db.execute("DELETE FROM segments WHERE member_id = ? AND segment = ?", (member, data["segment"]))
    elif kind == "consent.changed":
        row = (member, data["channel"], data["topic"], data["state"])
        db.execute("INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?)", row)
    elif kind.startswith("message.") and data.get("touch_id"):
        status = kind.partition(".")[2]
        db.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (touch_id) DO UPDATE SET "
            "status = iif(excluded.rank >= rank, excluded.status, status), "
            "reason = iif(excluded.rank >= rank, excluded.reason, reason), "
            "at = excluded.at, sent = max(sent, excluded.sent), rank = max(rank, excluded.rank)",
            (data["touch_id"], member, data.get("campaign"), data.get("channel"), status, data.get("reason"),
             event["timestamp"], int(status == "sent"), RANK.get(status, 0)),
        )  # fmt: skip


def follow(kafka: str, path: str, until_idle: float | None = None) -> int:
    """Follow the topic; with `until_idle` return after so many seconds without an event. Events applied."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(SCHEMA)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, isolation_level="read_committed", group_id=None
    )
    parts = [TopicPartition(TOPIC, p) for p in sorted(consumer.partitions_for_topic(TOPIC) or ())]
    consumer.assign(parts)
    known = dict(db.execute("SELECT partition, next FROM offsets"))
    for tp in parts:
        consumer.seek(tp, known.get(tp.partition, 0))
    applied, last = 0, time.monotonic()
    try:
        while until_idle is None or time.monotonic() - last < until_idle:
            for tp, records in consumer.poll(timeout_ms=300, max_records=2000).items():
                db.execute("BEGIN")
                for record in records:
                    apply(db, json.loads(record.value))
                db.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", (tp.partition, records[-1].offset + 1))
                db.execute("COMMIT")
                applied, last = applied + len(records), time.monotonic()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        db.close()
    return applied


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--kafka", required=True, help="bootstrap servers, see .rondo/state.json")
    ap.add_argument("--db", default="crm.sqlite")
    ap.add_argument("--until-idle", type=float, help="end after so many seconds without an event")
    args = ap.parse_args()
    print(f"{follow(args.kafka, args.db, args.until_idle)} events applied")
