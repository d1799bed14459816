"""The state of a million members, from Kafka into an empty Redis: seconds, Redis memory, worker memory.

The state topic of profiles is filled by a plain producer with what the stage writes for a member: the profile,
the link of its sender, for one member in ten a bucket of message ids; every fifth profile twice, since a compacted
log is never quite compact. Beside it: reading the topic and nothing else.
"""

import time
from typing import Any

import psutil
import redis
from confluent_kafka import TopicPartition

from rondo_common import kafka as clients
from rondo_common import topics
from rondo_common.catalogue import TOPICS
from rondo_common.streams.commit import produce
from rondo_common.streams.store import names
from tests.bench.baselines.copy_loop import cpu
from tests.bench.frame import Figure, World
from tests.bench.stages import Bed

NAME = "restore"
TITLE = "state of 1,000,000 members restored into an empty Redis"
MEMBERS = 1_000_000
GOAL_S, GOAL_REDIS, GOAL_RSS = 120, 1e9 / 2**20, 300

_MEMBER = (
    '["user_id",[{n},1795250401964,1795250402593,1795250401964,1795250402593,10,{{"Consent Changed":[1,1795250402032],'
    '"Product Viewed":[8,1795250402593],"Order Completed":[1,1795250402275]}},{{"u{n}":1795250401964}},{{}},'
    '{{"email":[1795250401964,"u{n}@shop.example"],"firstName":[1795250401964,"Name{n}"],'
    '"lastName":[1795250401964,"Surname{n}"],"plan":[1795250402205,"basic"],"city":[1795250402205,"Vienna"],'
    '"timezone":[1795250401964,"Europe/Vienna"],"visits":[1795250402205,67]}},{{}},'
    '{{"email:offers":[1795250402032,"granted","c{n}","form","1"]}},{{}},{{}}],{{}},null,"anonymous_id"]'
)
_LINK = '[{{"{id}":[1795250401964,true]}}]'
_BUCKET = b'["qC8dnqXpOek=","awFY4g=="]'


def fill(bed: Bed, members: int) -> int:
    """Write the states; how many different keys."""
    partitions = bed.settings.partitions
    producer = clients.producer(bed.settings.kafka, "bench-fill", queue_buffering_max_messages=1_000_000, linger_ms=50)
    records = 0

    def put(number: int, key: str, value: bytes) -> None:
        nonlocal records
        produce(producer, topic=topics.IDENTITIES, key=key, value=value, partition=number % partitions)
        records += 1
        if records % 10_000 == 0:
            producer.poll(0)

    again = 0
    for n in range(members):
        id = f"{n:08x}-4bde-52a9-8cbb-{n:012x}"
        member = _MEMBER.format(n=n).encode()
        if n % 5 == 0:
            put(n, f"m:demo:{id}", member.replace(b'"basic"', b'"gold"'))
            again += 1
        put(n, f"m:demo:{id}", member)
        put(n, f"c:demo:{id}", _LINK.format(id=id).encode())
        if n % 10 == 0:
            put(n, f"d:demo:{id}:1", _BUCKET)
    if producer.flush(120):
        raise TimeoutError("the states were not acknowledged")
    return records - again


def consume(bed: Bed) -> tuple[float, int, float]:
    """Read the topic and keep nothing: seconds, bytes of keys and values, CPU seconds of this process."""
    reader = clients.reader(bed.settings.kafka, "bench-read")
    left = set(range(TOPICS[topics.IDENTITIES].count(bed.settings.partitions)))
    reader.assign([TopicPartition(topics.IDENTITIES, p, 0) for p in left])
    mine = {"me": psutil.Process()}
    began, before = time.monotonic(), cpu(mine)["me"]
    size = 0
    while left:
        for m in reader.consume(5_000, 0.1):
            if m.error() is None:
                size += len(m.key()) + len(m.value() or b"")
            elif clients.is_eof(m.error()):
                left.discard(m.partition())
            else:
                raise clients.KafkaException(m.error())
    took = time.monotonic() - began
    reader.close()
    return took, size, cpu(mine)["me"] - before


def run(world: World) -> list[Figure]:
    """One restore. The log is filled anew each time: a run stands for itself."""
    members = world.size(MEMBERS, 20_000)
    bed = Bed(world.folder / f"restore-{time.monotonic_ns()}")
    try:
        keys = fill(bed, members)
        with redis.Redis.from_url(bed.settings.redis) as client:
            empty = client.info("memory")["used_memory"]
            found: dict[str, Any] = bed.worker("tests.bench.restore_worker", timeout_s=290)
            held = sum(client.hlen(names("profiles", p).states) for p in range(bed.settings.partitions))
            used = (client.info("memory")["used_memory"] - empty) / 2**20
        bare, size, bare_cpu = consume(bed)
    finally:
        bed.stop()
    if held < keys:
        raise AssertionError(f"{keys} states written, {held} restored")
    share = members / MEMBERS
    details = {
        "records": found["records"],
        "MB": round(size / 1e6),
        "records/s": round(found["records"] / found["seconds"]),
        **{f"CPU s {name}": round(s, 1) for name, s in found["cpu"].items()},
        "CPU s bare": round(bare_cpu, 1),
    }
    return [
        Figure("seconds", round(found["seconds"], 1), "s", False, round(bare, 1), "bare read", GOAL_S * share, details),
        Figure(
            "Redis memory", round(used), "MiB", False, round(size / 2**20), "key and value", round(GOAL_REDIS * share)
        ),
        Figure(
            "worker memory",
            round(found["rss"]),
            "MiB",
            False,
            goal=GOAL_RSS,
            details={
                "before the restore MiB": round(found["rss before"]),
                "after it MiB": round(found["rss after"]),
            },
        ),
    ]
