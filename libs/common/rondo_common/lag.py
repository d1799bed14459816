"""Is everything that was accepted done? For the API; the command line has an independent look of its own.

Committed offsets are read first and the logs' ends after them, so work can't hide between two stages;
an idle stage commits up to the end of the log, markers included. What no offset shows (calls under
way, sweeps, due timers) each process says in the gauge rondo_stream_pending.
"""

from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions

from rondo_common import kafka
from rondo_common.topics import TOPICS, Topic

PENDING = "rondo_stream_pending"


def reads(topic: Topic, process: str) -> bool:
    """Whether a process reads a topic through its group; its own state it replays without one."""
    return process in topic.readers and not (topic.cleanup == "compact" and process in topic.writers)


def behind(admin: Any, processes: list[str]) -> dict[str, dict[str, int]]:
    """Offsets after the committed ones, by process and topic, only where there are any."""
    wanted = {p: [t for t in TOPICS.values() if reads(t, p)] for p in processes}
    wanted = {p: topics for p, topics in wanted.items() if topics}
    committed: dict[str, dict[tuple[str, int], int]] = {}
    futures = {
        p: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(f"rondo.{p}")], request_timeout=10)
        for p in wanted
    }
    for p, found in futures.items():
        (future,) = found.values()
        committed[p] = {
            (tp.topic, tp.partition): tp.offset for tp in future.result().topic_partitions if tp.offset >= 0
        }
    names = sorted({t.name for topics in wanted.values() for t in topics})
    places = [(name, p) for name, info in kafka.describe(admin, names).items() for p in range(info.partitions)]
    ends = kafka.end_offsets(admin, places)
    out: dict[str, dict[str, int]] = {}
    for process, topics in wanted.items():
        mine = {t.name for t in topics}
        for (name, p), end in ends.items():
            gap = end - committed[process].get((name, p), 0)
            if name in mine and gap > 0:
                lag = out.setdefault(process, {})
                lag[name] = lag.get(name, 0) + gap
    return out


def pending(metrics: str) -> dict[str, float]:
    """Work under way by the text of a process's /metrics: what -> how much, only where there is any."""
    out = {}
    for line in metrics.splitlines():
        if line.startswith(PENDING) and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            if float(value) > 0:
                out[name.removeprefix(PENDING)] = float(value)
    return out
