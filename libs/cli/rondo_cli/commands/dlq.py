"""`rondo dlq`: dead letters, the oldest of each partition first.

A dead letter has the original key, value and headers, and headers `rondo-dlq-*` that say why. What
was replayed or dropped is removed from the dead-letter topic, so nothing has to remember it.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rondo_cli import broker, output, state
from rondo_cli.broker import TopicPartition
from rondo_cli.commands.records import full_name, view
from rondo_cli.errors import Failure
from rondo_cli.local.plan import bootstrap_of

SUFFIX = ".dlq"
ABOUT = "rondo-dlq-"
REPLAY_OF = "rondo-replay-of"
ATTEMPT = "rondo-replay-attempt"


def _headers(record: Any) -> dict[str, str]:
    return {k: v.decode(errors="replace") for k, v in record.headers or ()}


def _dead(bootstrap: str, topic: str | None) -> tuple[list[str], Iterator[Any]]:
    with broker.admin(bootstrap) as client:
        names = {n for n in broker.topic_names(client) if n.endswith(SUFFIX)}
        if topic is not None:
            names = {full_name(topic if topic.endswith(SUFFIX) else _source(topic, names), names)}
        where = broker.all_partitions(client, names)
        first, end = broker.starts(client, where), broker.ends(client, where)
    return sorted(names), broker.records(bootstrap, {tp: (first[tp], end[tp]) for tp in where})


def _source(topic: str, names: set[str]) -> str:
    return full_name(topic, {n.removesuffix(SUFFIX) for n in names}) + SUFFIX


def ls(json: bool) -> int:
    """How many, by topic and reason."""
    _, records = _dead(bootstrap_of(state.read()), None)
    counts = Counter(
        (r.topic.removesuffix(SUFFIX), _headers(r).get(f"{ABOUT}stage", ""), _headers(r).get(f"{ABOUT}reason", ""))
        for r in records
    )
    rows = [[topic, stage, reason, count] for (topic, stage, reason), count in sorted(counts.items())]
    if json:
        output.as_json([dict(zip(("topic", "stage", "reason", "count"), row, strict=True)) for row in rows])
    elif rows:
        output.as_table("", ("topic", "stage", "reason", "count"), rows)
    else:
        print("no dead letters")
    return 0


def show(topic: str, limit: int, reason: str | None, json: bool) -> int:
    """The dead letters themselves."""
    _, records = _dead(bootstrap_of(state.read()), topic)
    wanted = [r for r in records if reason is None or _headers(r).get(f"{ABOUT}reason") == reason]
    shown = [view(r) for r in sorted(wanted, key=lambda r: (r.timestamp, r.partition, r.offset))[:limit]]
    if json:
        output.as_json(shown)
        return 0
    for one in shown:
        h = one["headers"]
        print(f"{one['partition']}:{one['offset']} {h.get(f'{ABOUT}time', one['time'])} {h.get(f'{ABOUT}reason')}")
        if detail := h.get(f"{ABOUT}detail"):
            print(f"    {detail}")
        print(f"    key {one['key']}  value {one['value']}")
    return 0


def replay(topic: str, limit: int, yes: bool) -> int:
    """Write them back and remove them."""
    bootstrap = bootstrap_of(state.read())
    name, oldest = _oldest(bootstrap, topic, limit)
    if not oldest:
        print(f"no dead letters in {name}")
        return 0
    target = name.removesuffix(SUFFIX)
    _ask(f"write {len(oldest)} records back to {target}?", yes)
    if any(f"{ABOUT}input" in _headers(r) for r in oldest):
        raise Failure("among them are inputs that were no records (timers, answers); they can only be dropped")
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", client_id="rondo-cli")
    try:
        written = [producer.send(target, **replayed(r)) for r in oldest]
        producer.flush(30)
        for one in written:
            one.get(30)
    finally:
        producer.close()
    _remove(bootstrap, oldest)
    print(f"{len(oldest)} records written back to {target}")
    return 0


def replayed(record: Any) -> dict[str, Any]:
    """What is written back for a dead letter: its key, value, time and headers, without those about its
    death, and where it came from. The same partition as before, when it is known."""
    about = _headers(record)
    headers = [(k, v) for k, v in record.headers or () if not k.startswith((ABOUT, REPLAY_OF, ATTEMPT))]
    attempt = int(about.get(ATTEMPT, "0")) + 1
    headers += [
        (REPLAY_OF, f"{record.topic}:{record.partition}:{record.offset}".encode()),
        (ATTEMPT, str(attempt).encode()),
    ]
    origin = about.get(f"{ABOUT}partition", "")
    return {
        "key": record.key,
        "value": record.value,
        "headers": headers,
        "partition": int(origin) if origin.isdigit() else None,
        "timestamp_ms": record.timestamp,
    }


def drop(topic: str, limit: int, yes: bool) -> int:
    """Remove them for good."""
    bootstrap = bootstrap_of(state.read())
    name, oldest = _oldest(bootstrap, topic, limit)
    if not oldest:
        print(f"no dead letters in {name}")
        return 0
    _ask(f"remove {len(oldest)} records from {name} for good?", yes)
    _remove(bootstrap, oldest)
    print(f"{len(oldest)} records removed")
    return 0


def _oldest(bootstrap: str, topic: str, limit: int) -> tuple[str, list[Any]]:
    """The `limit` oldest; of each partition a beginning, so that they can be removed."""
    names, records = _dead(bootstrap, topic)
    return names[0], sorted(records, key=lambda r: (r.offset, r.partition))[:limit]


def _remove(bootstrap: str, oldest: list[Any]) -> None:
    before: dict[TopicPartition, int] = {}
    for r in oldest:
        tp = TopicPartition(r.topic, r.partition)
        before[tp] = max(before.get(tp, 0), r.offset + 1)
    with broker.admin(bootstrap) as client:
        broker.delete_before(client, before)


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{question} Say --yes", 2)
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Failure("nothing was done")
