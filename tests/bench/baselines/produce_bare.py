"""What writing to Kafka alone costs: a bare librdkafka producer, idempotent, acks=all.

    python tests/bench/baselines/produce_bare.py BOOTSTRAP TOPIC EVENTS VALUES

VALUES is a file with one value a line, produced in turn under 10,000 keys, each with an acknowledgement of
its own, as who answers for single events needs it. Prints a line of JSON: events, seconds from the first
produce to the last acknowledgement, CPU seconds of this process.
"""

import json
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

BACKLOG = 100_000


def main(bootstrap: str, topic: str, events: int, values: str) -> None:
    lines = Path(values).read_bytes().splitlines()
    keys = [b"demo:%08d-aaaa-bbbb-cccc-dddddddddddd" % i for i in range(10_000)]
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.messages": 2 * BACKLOG,
        }
    )
    acknowledged = 0

    def on_delivery(error, _):
        nonlocal acknowledged
        acknowledged += error is None

    producer.list_topics(topic, 10)
    begun = time.perf_counter()
    for i in range(events):
        producer.produce(topic, lines[i % len(lines)], keys[i % len(keys)], on_delivery=on_delivery)
        if not i % 100:
            producer.poll(0)
            while len(producer) > BACKLOG:
                producer.poll(0.01)
    producer.flush(60)
    seconds = time.perf_counter() - begun
    assert acknowledged == events, f"{events - acknowledged} not acknowledged"
    print(json.dumps({"events": events, "seconds": seconds, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
