"""Which partitions a worker was given, and where it begins in each."""

import logging
import struct
import time
import warnings
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from rondo_common import kafka
from rondo_common.streams.commit import Fatal

log = logging.getLogger("rondo.streams")

COMMITTED_S = 60.0
"""A predecessor's open transaction keeps the answer for its time-out; a broker that comes back, for longer."""

Starts = dict[kafka.Partition, tuple[int, int]]
"""Where to start and where the log ended then, by (topic, partition)."""


def together(topics: Iterable[str], partitions: Sequence[TopicPartition]) -> list[int]:
    """The partition numbers given. Fatal unless each of them was given of every topic (STREAMS 4)."""
    given = {(tp.topic, tp.partition) for tp in partitions}
    numbers = sorted({number for _, number in given})
    missing = [(topic, number) for topic in topics for number in numbers if (topic, number) not in given]
    if missing:
        raise Fatal(
            f"partitions are not assigned together: {missing} lie with another worker of the group. "
            "All workers of a group must read the same topics, with the same partition count"
        )
    return numbers


def starts(consumer: Consumer, admin: AdminClient, partitions: Sequence[TopicPartition]) -> Starts:
    """Where to begin. The group's committed offsets are fetched before anything else is asked: while a
    predecessor's transaction is open, the broker holds the answer (STREAMS 2). Fatal when unprocessed
    records were deleted."""
    if not partitions:
        return {}
    offsets = committed(consumer, partitions)
    first = kafka.first_offsets(admin, offsets)
    ends = kafka.end_offsets(admin, offsets, committed=True)
    found = {}
    for place, offset in offsets.items():
        if 0 <= offset < first[place]:
            raise Fatal(f"{place}: records {offset} to {first[place] - 1} were deleted before they were processed")
        found[place] = (offset if offset >= 0 else first[place], ends[place])
    return found


def committed(consumer: Consumer, partitions: Sequence[TopicPartition]) -> dict[kafka.Partition, int]:
    """The group's committed offsets, negative where there is none."""
    deadline = time.monotonic() + COMMITTED_S
    while True:
        try:
            answer = consumer.committed([TopicPartition(tp.topic, tp.partition) for tp in partitions], 5.0)
            bad = next((tp.error for tp in answer if tp.error), None)
            if bad is None:
                return {(tp.topic, tp.partition): tp.offset for tp in answer}
        except KafkaException as e:
            bad = e.args[0]
        if time.monotonic() > deadline:
            raise Fatal(f"can't learn the committed offsets: {bad}")


class OtherTopics(Exception):
    """Somebody in the group reads other topics."""


def check_group(admin: AdminClient, group: str, client_id: str, topics: Iterable[str]) -> None:
    """OtherTopics when a member of the group subscribes to another list of topics: then partition p of
    the topics would not lie with one worker. `client_id` is this worker, whose former self may still
    be listed."""
    wanted = sorted(topics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor does not tell the subscriptions
        groups = admin.list_groups(group, timeout=kafka.TIMEOUT_S)
    for found in groups:
        for member in found.members:
            if member.client_id != client_id and member.metadata:
                theirs = sorted(subscribed(member.metadata))
                if theirs and theirs != wanted:
                    raise OtherTopics(
                        f"group {group} is read by {member.client_id} with topics {theirs}, not {wanted}: "
                        "stop the old workers first"
                    )


def subscribed(metadata: bytes) -> list[str]:
    """The topics in a member's subscription (Kafka's consumer protocol: version, then the list)."""
    (count,) = struct.unpack_from(">i", metadata, 2)
    at = 6
    topics = []
    for _ in range(count):
        (size,) = struct.unpack_from(">h", metadata, at)
        topics.append(metadata[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return topics
