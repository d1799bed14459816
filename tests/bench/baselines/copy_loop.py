"""A bare transactional copy loop: what a stream stage could do at most in Python.

    python -m tests.bench.baselines.copy_loop BOOTSTRAP TARGET TOPIC[,TOPIC...] [NAME=PID ...]

Reads the committed records of the topics from their beginning to their end and writes each to TARGET with its
key, value and headers, up to 2,000 in a transaction that also moves the group's offsets: the same client
settings, durability and batch size as the stream loop, and no decision, no state, no Redis. Prints one line of
JSON: records, seconds and CPU seconds from the first record to the last commit, of this process and of the
named ones.
"""

import json
import sys
import time

import psutil
from confluent_kafka import TopicPartition

from rondo_common import kafka as clients

BATCH = 2_000


def copy(bootstrap: str, target: str, topics: list[str], watched: dict[str, int]) -> dict[str, object]:
    """The whole copy; see the module."""
    name = f"copy.{time.time_ns()}"
    consumer = clients.group_consumer(bootstrap, name, name, auto_offset_reset="earliest")
    producer = clients.transactional_producer(bootstrap, name)
    producer.init_transactions(30)
    found = consumer.list_topics(timeout=20).topics
    left = {(t, p) for t in topics for p in found[t].partitions}
    consumer.assign([TopicPartition(t, p, 0) for t, p in left])
    processes = {"stage": psutil.Process(), **{n: psutil.Process(pid) for n, pid in watched.items()}}
    records = transactions = 0
    begun: tuple[float, dict[str, float]] | None = None
    last = time.perf_counter()
    while left:
        ends: dict[tuple[str, int], int] = {}
        messages = consumer.consume(BATCH, 0.1)
        for m in messages:
            if m.error() is not None:
                if not clients.is_eof(m.error()):
                    raise clients.KafkaException(m.error())
                left.discard((m.topic(), m.partition()))
                continue
            if begun is None:
                begun = time.perf_counter(), cpu(processes)
            if not ends:
                producer.begin_transaction()
            producer.produce(target, m.value(), m.key(), timestamp=m.timestamp()[1], headers=m.headers())
            ends[m.topic(), m.partition()] = m.offset() + 1
            records += 1
        if not ends:
            continue
        offsets = [TopicPartition(*place, end) for place, end in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()
        transactions += 1
        last = time.perf_counter()
    spent = cpu(processes)
    consumer.close()
    if begun is None:
        raise ValueError(f"nothing to copy in {topics}")
    at, before = begun
    return {
        "records": records,
        "seconds": last - at,
        "transactions": transactions,
        "cpu": {n: s - before[n] for n, s in spent.items()},
    }


def cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """CPU seconds so far, by name."""
    return {name: sum(p.cpu_times()[:2]) for name, p in processes.items()}


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[4:])
    print(json.dumps(copy(*sys.argv[1:3], sys.argv[3].split(","), {n: int(pid) for n, pid in pairs})))
