"""Which partitions a worker was given, and where it begins in each."""

import logging
import struct
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from rondo_common import kafka
from rondo_common.streams.commit import Fatal

log = logging.getLogger("rondo.streams")

COMMITTED_S = kafka.TRANSACTION_MS / 1000 + 2
"""How long a predecessor's open transaction may keep the answer."""
COMMITTED_TOGETHER_S = 1.0
"""How long the answer about all inputs is waited for before each is asked for alone."""
HINT_S = 0.25
"""The same where the states tell, and the group only how far was passed over since."""

Bounds = dict[kafka.Partition, tuple[int, int]]
"""First offset still kept and end of the log, by (topic, partition)."""


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


def bounds(admin: AdminClient, partitions: Sequence[TopicPartition]) -> Bounds:
    """What the logs hold now, committed records only."""
    places = [(tp.topic, tp.partition) for tp in partitions]
    first = kafka.first_offsets(admin, places)
    ends = kafka.end_offsets(admin, places, committed=True)
    return {place: (first[place], ends[place]) for place in places}


def starts_of(
    consumer: Consumer, wanted: Mapping[kafka.Partition, tuple[int | None, int]]
) -> dict[kafka.Partition, int]:
    """Where to begin reading each input. `wanted` holds the offset in the partition's states and the first record kept.
    The former was written with the states, so it is right whenever they are. The group's committed offset may be
    ahead of it, over records that changed nothing: then it is taken, but not waited for (a broker that was killed
    can leave it pending for ever). Without the former nothing of this input was ever processed: the group's offset
    if there is one, else the first record kept. Fatal when records that were not processed have been deleted."""
    known = {p: restored for p, (restored, first) in wanted.items() if restored is not None and restored >= first}
    said = _committed(consumer, list(wanted), HINT_S if len(known) == len(wanted) else COMMITTED_TOGETHER_S)
    starts = {place: max(restored, said.get(place) or 0) for place, restored in known.items()}
    for place in wanted.keys() - known.keys():
        committed = said[place] if place in said else _committed_alone(consumer, place)
        starts[place] = _start(place, *wanted[place], committed)
    return starts


def _start(place: kafka.Partition, restored: int | None, first: int, committed: int | None) -> int:
    """Where to begin when the states do not tell."""
    if committed is not None and committed >= first:
        return committed
    offset = max(-1 if committed is None else committed, -1 if restored is None else restored)
    if offset >= 0:
        raise Fatal(f"{place}: records {offset} to {first - 1} were deleted before they were processed")
    return first


def _committed(
    consumer: Consumer, places: Sequence[kafka.Partition], timeout_s: float
) -> dict[kafka.Partition, int | None]:
    """The group's committed offsets, None for one that has none. While a transaction that moves one of them is open,
    the broker holds the answer about all back: then there is none here."""
    if not places:
        return {}
    try:
        answers = consumer.committed([TopicPartition(*place) for place in places], timeout_s)
    except KafkaException:
        return {}
    return {(a.topic, a.partition): a.offset if a.offset >= 0 else None for a in answers if not a.error}


def _committed_alone(consumer: Consumer, place: kafka.Partition) -> int | None:
    """The offset of one. A transaction that stays open for longer than it can live tells nothing."""
    deadline = time.monotonic() + COMMITTED_S
    while True:
        try:
            (answer,) = consumer.committed([TopicPartition(*place)], 2.0)
            if not answer.error:
                return answer.offset if answer.offset >= 0 else None
            bad = answer.error
        except KafkaException as e:
            bad = e.args[0]
        if time.monotonic() > deadline:
            log.warning("%s: no committed offset to be had: %s", place, bad)
            return None


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
