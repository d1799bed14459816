"""`rondo topics`."""

import os
from dataclasses import asdict
from typing import Any

from rondo_cli import broker, output, state
from rondo_cli.commands.records import full_name
from rondo_cli.local.plan import bootstrap_of
from rondo_cli.topics import create_catalogue, differences
from rondo_common.catalogue import TOPICS
from rondo_common.partition import PARTITIONS


def ls(json: bool) -> int:
    """The catalogue beside the broker. Topics outside of the catalogue come last."""
    bootstrap = bootstrap_of(state.read())
    with broker.admin(bootstrap) as client:
        there = {n for n in broker.topic_names(client) if not n.startswith("__")}
        parts = broker.partitions(client, there)
        where = [broker.TopicPartition(t, p) for t, ps in parts.items() for p in ps]
        first, end = broker.starts(client, where), broker.ends(client, where)
    rows: list[dict[str, Any]] = []
    for name in [*TOPICS, *sorted(there - TOPICS.keys())]:
        topic = TOPICS.get(name)
        mine = [tp for tp in where if tp.topic == name]
        rows.append(
            {
                "topic": name,
                "partitions": len(mine) if mine else None,
                "offsets": sum(end[tp] - first[tp] for tp in mine) if mine else None,
                "cleanup": topic.cleanup if topic else "",
                "key": topic.key if topic else "",
                "about": topic.about if topic else "not in the catalogue",
            }
        )
    if json:
        output.as_json(rows)
    else:
        shown = [r for r in rows if not r["topic"].endswith(".dlq") or r["offsets"]]
        output.as_table("", list(rows[0]), [list(r.values()) for r in shown])
    return 0


def create(partitions: int | None, replication: int | None) -> int:
    """Make what is missing; exit 1 when something there has another partition count."""
    bootstrap = bootstrap_of(state.read())
    count = partitions or int(os.environ.get("RONDO_PARTITIONS") or PARTITIONS)
    made = create_catalogue(bootstrap, count, replication or int(os.environ.get("RONDO_REPLICATION") or 1), _frozen())
    print(f"{len(made)} topics made")
    wrong = differences(bootstrap, count)
    for difference in wrong:
        print(f"{difference.topic} {difference.what}")
    return 1 if wrong else 0


def _frozen() -> bool:
    return bool((state.read() or {}).get("test_clock"))


def describe(topic: str, json: bool) -> int:
    """One topic in full."""
    bootstrap = bootstrap_of(state.read())
    with broker.admin(bootstrap) as client:
        name = full_name(topic, broker.topic_names(client))
        where = broker.all_partitions(client, [name])
        first, end = broker.starts(client, where), broker.ends(client, where)
        config = broker.topic_config(client, name)
    known = TOPICS.get(name)
    about: dict[str, Any] = {k: v for k, v in asdict(known).items() if k != "value"} if known else {"name": name}
    if known:
        about["value"] = known.value.__name__ if known.value else None
    parts = [{"partition": tp.partition, "first": first[tp], "end": end[tp]} for tp in where]
    if json:
        output.as_json({**about, "partitions": parts, "config": config})
    else:
        output.as_table(
            name, ("", ""), [[k, v if not isinstance(v, tuple) else ", ".join(v)] for k, v in about.items()]
        )
        output.as_table("configuration", ("", ""), sorted(map(list, config.items())))
        output.as_table("", ("partition", "first", "end"), [list(p.values()) for p in parts])
    return 0
