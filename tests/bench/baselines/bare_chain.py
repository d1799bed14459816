"""Three bare consume-and-produce hops over Kafka: what a chain costs that decides nothing.

Each hop is a process of its own that copies records in transactions, one at most every 25 ms under load
and at once when idle, as the stream loop does. `throughput` drains a full topic through all three,
`latency` sends single records. The broker is started here with the settings of the local stack.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, TopicPartition

from rondo_cli import broker
from rondo_common import kafka as clients
from tests.support.servers import start_kafka

PARTITIONS = 8
TOPICS = ("bare.a", "bare.b", "bare.c", "bare.d")
VALUE = (
    b'{"workspace":"demo","member_id":"00000000-0000-0000-0000-000000000000","kind":"track",'
    + b'"x":"y",' * 40
    + b'"z":1}'
)
"""As long as a member event of the shop, about 400 bytes."""


class Bare(NamedTuple):
    """Records/s through all hops; CPU µs a record over all processes, and of the broker alone."""

    rate: float
    cpu_us: float
    broker_us: float


def hop(bootstrap: str, source: str, target: str) -> None:
    """Copy for ever."""
    consumer = clients.group_consumer(bootstrap, f"hop.{source}", f"hop.{source}.0", auto_offset_reset="earliest")
    producer = clients.transactional_producer(bootstrap, f"hop.{source}")
    producer.init_transactions(30)
    consumer.subscribe([source])
    last = 0.0
    while True:
        first = consumer.poll(0.05)
        if first is None:
            continue
        messages = [m for m in (first, *consumer.consume(2_000, 0)) if m.error() is None]
        if not messages:
            continue
        last = time.monotonic()
        producer.begin_transaction()
        ends: dict[int, int] = {}
        for m in messages:
            producer.produce(target, m.value(), m.key(), timestamp=m.timestamp()[1])
            ends[m.partition()] = m.offset() + 1
        offsets = [TopicPartition(source, p, o) for p, o in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()
        if len(messages) > 50:
            time.sleep(max(0.0, last + 0.025 - time.monotonic()))


@contextmanager
def _chain(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """A broker and three hops; its address and the process ids by name."""
    server, _ = start_kafka(folder / f"bare-{time.monotonic_ns()}")
    hops: list[subprocess.Popen[bytes]] = []
    try:
        bootstrap = f"127.0.0.1:{server.port}"
        broker.create_topics(bootstrap, {t: (PARTITIONS, 1, {}) for t in TOPICS})
        for source, target in pairwise(TOPICS):
            command = [sys.executable, "-m", "tests.bench.baselines.bare_chain", bootstrap, source, target]
            hops.append(subprocess.Popen(command, cwd=Path(__file__).parents[3]))
        yield bootstrap, {"kafka": server.child.pid, **{f"hop{i}": h.pid for i, h in enumerate(hops)}}
    finally:
        for h in hops:
            h.kill()
            h.wait()
        server.stop()


def _reader(bootstrap: str) -> Consumer:
    consumer = clients.reader(bootstrap, "bare-end", enable_partition_eof=False)
    consumer.assign([TopicPartition(TOPICS[-1], p, 0) for p in range(PARTITIONS)])
    return consumer


def _feed(bootstrap: str, records: int) -> None:
    producer = clients.producer(bootstrap, "bare-feed", queue_buffering_max_messages=2_000_000)
    for i in range(records):
        producer.produce(TOPICS[0], VALUE, b"demo:%d" % (i % 8_000))
    producer.flush(60)


def _arrived(consumer: Consumer, records: int, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while records > 0:
        records -= sum(m.error() is None for m in consumer.consume(5_000, 0.05))
        if time.monotonic() > deadline:
            raise TimeoutError(f"{records} records did not come through the bare chain")


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


def throughput(folder: Path, records: int) -> Bare:
    """Drain `records` through the three hops, after a tenth of them for warming up."""
    with _chain(folder) as (bootstrap, pids):
        consumer = _reader(bootstrap)
        _feed(bootstrap, records // 10)
        _arrived(consumer, records // 10)
        before, began = _cpu(pids), time.monotonic()
        _feed(bootstrap, records)
        _arrived(consumer, records)
        took, after = time.monotonic() - began, _cpu(pids)
        consumer.close()
    spent = {name: after[name] - before[name] for name in pids}
    return Bare(
        round(records / took), round(sum(spent.values()) / records * 1e6, 1), round(spent["kafka"] / records * 1e6, 1)
    )


def latency(folder: Path, records: int, every_s: float) -> list[float]:
    """Milliseconds of single records from the first producer to the last reader, after 20 for warming up."""
    found: list[float] = []
    with _chain(folder) as (bootstrap, _):
        consumer = _reader(bootstrap)
        producer = clients.producer(bootstrap, "bare-feed", linger_ms=0)
        for i in range(records + 20):
            began = time.monotonic()
            producer.produce(TOPICS[0], VALUE, b"demo:%d" % i)
            producer.poll(0)
            deadline = began + 30
            while (message := consumer.poll(1.0)) is None or message.error() is not None:
                if time.monotonic() > deadline:
                    raise TimeoutError("a record did not come through the bare chain")
            if i >= 20:
                found.append((time.monotonic() - began) * 1e3)
            time.sleep(max(0.0, began + every_s - time.monotonic()))
        consumer.close()
    return found


if __name__ == "__main__":
    hop(*sys.argv[1:4])
