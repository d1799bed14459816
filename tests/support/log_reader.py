"""What stands on a topic, read with the command line's own client. For tests."""

from collections.abc import Iterator
from typing import Any

from rondo_cli import broker


def records(bootstrap: str, *topics: str) -> Iterator[Any]:
    """Every record committed by now, partition by partition."""
    with broker.admin(bootstrap) as client:
        where = broker.all_partitions(client, topics)
        first, end = broker.starts(client, where), broker.ends(client, where)
    yield from broker.records(bootstrap, {tp: (first[tp], end[tp]) for tp in where})


def records_of(bootstrap: str, topic: str) -> list[bytes]:
    """Values of a topic."""
    return [record.value for record in records(bootstrap, topic) if record.value is not None]
