"""One stream stage beside a bare transactional copy loop on the same topics, in one run.

    python tests/bench/stream_stage.py [events]

Prints events/s of both, their ratio (target: at least 0.5), transactions and CPU per event of this
process. The toy stage reads, modifies and writes one state per event and emits one record.
"""

import logging
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "libs/common"), str(ROOT / "libs/cli"), str(ROOT)]

import msgspec  # noqa: E402
from confluent_kafka import TopicPartition  # noqa: E402

from rondo_common import kafka as clients  # noqa: E402
from rondo_common import telemetry  # noqa: E402
from rondo_common.clock import Clock  # noqa: E402
from rondo_common.streams.runtime import run_stage  # noqa: E402
from tests.support.servers import start_kafka, start_redis  # noqa: E402
from tests.support.stream_rig import Rig  # noqa: E402
from tests.support.toy_stage import Ask, ToyStage  # noqa: E402

PARTITIONS = 8
KEYS = 20_000


def feed(rig: Rig, events: int) -> None:
    fixed = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/rondo/bench"),
        ("ce_type", b"bench"),
        ("ce_time", b"2026-01-01T00:00:00Z"),
        ("content-type", b"application/json"),
        ("depth", b"1"),
    ]
    for i in range(events):
        key = f"demo:{i % KEYS:08d}-aaaa-bbbb-cccc-dddddddddddd"
        rig.put(key, msgspec.json.encode(Ask(key)), headers=[*fixed, ("ce_id", b"%036d" % i)])
        if i % 5000 == 0:
            rig.producer.poll(0)
    rig.flush()


def bare(rig: Rig) -> float:
    """Copy the input to the output in transactions, nothing else. Events/s."""
    consumer = clients.reader(rig.kafka, "bare")
    producer = clients.transactional_producer(rig.kafka, "bare")
    producer.init_transactions(30)
    consumer.assign([TopicPartition(rig.stage.input, p, 0) for p in range(PARTITIONS)])
    left, count, begin = set(range(PARTITIONS)), 0, 0.0
    while left:
        messages = consumer.consume(2000, 0.1)
        begin = begin or time.perf_counter()
        producer.begin_transaction()
        for m in messages:
            if m.error():
                left.discard(m.partition())
            else:
                producer.produce(rig.stage.output, m.value(), m.key(), headers=m.headers())
                count += 1
        producer.send_offsets_to_transaction(
            [TopicPartition(rig.stage.input, 0, 1)], consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
    consumer.close()
    return count / (time.perf_counter() - begin)


def handled(rig: Rig) -> float:
    labels = {"stage": rig.stage.name, "topic": rig.stage.input}
    return telemetry.REGISTRY.get_sample_value("rondo_stream_records_total", labels) or 0.0


def stage(rig: Rig, events: int) -> tuple[float, float, float]:
    """Events/s, transactions, CPU microseconds per event of the stage."""
    stop, found = threading.Event(), []

    def watch() -> None:
        begin = None
        while not stop.is_set():
            time.sleep(0.05)
            n = handled(rig)
            if n and begin is None:
                begin = n, time.perf_counter(), time.process_time()
            if n >= events:
                first, at, cpu = begin
                rate = (n - first) / (time.perf_counter() - at)
                found.append((rate, (time.process_time() - cpu) / (n - first) * 1e6))
                stop.set()

    threading.Thread(target=watch, daemon=True).start()
    run_stage(rig.stage, rig.settings(), Clock(), stop_event=stop)
    labels = {"stage": rig.stage.name, "outcome": "committed"}
    made = telemetry.REGISTRY.get_sample_value("rondo_stream_transactions_total", labels) or 0
    return found[0][0], made, found[0][1]


def main(events: int) -> None:
    logging.basicConfig(level=logging.WARNING)
    folder = Path(tempfile.mkdtemp())
    kafka_server, _ = start_kafka(folder / "kafka")
    redis_server, where = start_redis(folder / "redis")
    try:
        rig = Rig(
            f"127.0.0.1:{kafka_server.port}", where.url, PARTITIONS, ToyStage("bench", log=0), str(folder / "data")
        )
        feed(rig, events)
        copy = bare(rig)
        rate, transactions, cpu = stage(rig, events)
        assert sum(rig.counts().values()) == events
        print(f"bare transactional copy  {copy:10,.0f} events/s")
        print(f"stream stage             {rate:10,.0f} events/s   ratio {rate / copy:.2f}")
        print(f"transactions {transactions:.0f}, CPU {cpu:.1f} us/event in this process")
    finally:
        kafka_server.stop()
        redis_server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150_000)
