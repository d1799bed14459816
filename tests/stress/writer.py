"""Records written straight into topics, as a faulty or foreign producer would (kafka-python)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer

from rondo_cli import broker
from rondo_common.partition import partition_of


class Writer:
    """Writes keyed records to the partition their key belongs to."""

    def __init__(self, bootstrap: str):
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_block_ms=30_000)
        self._counts: dict[str, int] = {}
        self._bootstrap = bootstrap

    def put(self, topic: str, key: str, value: bytes, headers: Mapping[str, bytes] | None = None) -> None:
        if topic not in self._counts:
            with broker.admin(self._bootstrap) as client:
                self._counts[topic] = len(broker.all_partitions(client, [topic]))
        self._producer.send(
            topic,
            key=key.encode(),
            value=value,
            headers=list((headers or {}).items()),
            partition=partition_of(key, self._counts[topic]),
        )

    def flush(self) -> None:
        self._producer.flush(30)

    def close(self) -> None:
        self._producer.close()


@contextmanager
def writer(bootstrap: str) -> Iterator[Writer]:
    made = Writer(bootstrap)
    try:
        yield made
        made.flush()
    finally:
        made.close()


def headers_of(record: Any) -> dict[str, str]:
    return {k: v.decode(errors="replace") for k, v in record.headers or ()}
