"""Everything the command line asks of Kafka, through kafka-python: topics, offsets, records.

An independent eye: nothing here uses the client or the code the services use.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
)
from kafka.protocol.consumer.offsets import IsolationLevel

T = TypeVar("T")
BATCH = 40
"""Topics in one request: few enough for the controller to answer well within its time limit."""


@contextmanager
def admin(bootstrap: str, timeout_s: float = 30.0) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end. KafkaError when nobody answers."""
    client = KafkaAdminClient(
        bootstrap_servers=bootstrap, client_id="rondo-cli", request_timeout_ms=int(timeout_s * 1000)
    )
    try:
        yield client
    finally:
        client.close()


@contextmanager
def consumer(bootstrap: str, **config: Any) -> Iterator[KafkaConsumer]:
    """A consumer without a group that sees committed records only, closed at the end."""
    client = KafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="rondo-cli",
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        **config,
    )
    try:
        yield client
    finally:
        client.close()


def topic_names(client: KafkaAdminClient) -> set[str]:
    """Every topic of the cluster."""
    return set(client.list_topics())


LEADERS_MS = 60_000
"""How long a busy machine may take to give every partition of a batch of topics its leader."""


def create_topics(bootstrap: str, wanted: Mapping[str, tuple[int, int, Mapping[str, str]]]) -> list[str]:
    """Create the topics that are not there; `wanted` is name to (partitions, replication, config).
    Returns the names made, once all their partitions have leaders."""
    with admin(bootstrap) as client:
        missing = [name for name in wanted if name not in topic_names(client)]
        for i in range(0, len(missing), BATCH):
            request = {
                name: {
                    "num_partitions": wanted[name][0],
                    "replication_factor": wanted[name][1],
                    "configs": dict(wanted[name][2]),
                }
                for name in missing[i : i + BATCH]
            }
            with suppress(TopicAlreadyExistsError):  # somebody else made one of them meanwhile
                client.create_topics(request)
            client.wait_for_topics(list(request), timeout_ms=LEADERS_MS)
    return missing


def partitions(client: KafkaAdminClient, topics: Iterable[str]) -> dict[str, list[int]]:
    """Partition numbers of each of `topics` that exists."""
    found = client.describe_topics(sorted(set(topics)))
    return {t["name"]: sorted(p["partition_index"] for p in t["partitions"]) for t in found if not t.get("error_code")}


def all_partitions(client: KafkaAdminClient, topics: Iterable[str]) -> list[TopicPartition]:
    """Every partition of `topics`."""
    return [TopicPartition(t, p) for t, ps in partitions(client, topics).items() for p in ps]


def ends(
    client: KafkaAdminClient, where: Sequence[TopicPartition], committed: bool = True
) -> dict[TopicPartition, int]:
    """The end offset of each partition: behind the last committed record (`committed`), or behind all
    that was written, open transactions included."""
    return _offsets(client, where, OffsetSpec.LATEST, committed)


def starts(client: KafkaAdminClient, where: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The first offset still kept of each partition."""
    return _offsets(client, where, OffsetSpec.EARLIEST, False)


def _offsets(
    client: KafkaAdminClient, where: Sequence[TopicPartition], spec: Any, committed: bool
) -> dict[TopicPartition, int]:
    if not where:
        return {}
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    found = client.list_partition_offsets(dict.fromkeys(where, spec), isolation_level=level)
    return {tp: answer.offset for tp, answer in found.items()}


def patiently(ask: Callable[[], T], timeout_s: float = 10.0) -> T:
    """Ask until the group coordinator answers: on a new or restarted broker it takes a moment."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def committed(client: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[TopicPartition, int]]:
    """Each group's committed offsets; none for a group that has never committed."""
    if not names:
        return {}
    found = patiently(lambda: client.list_group_offsets(dict.fromkeys(names)))
    return {g: {tp: o.offset for tp, o in offsets.items() if o.offset >= 0} for g, offsets in found.items()}


def records(
    bootstrap: str,
    ranges: Mapping[TopicPartition, tuple[int, int]],
    timeout_s: float = 10.0,
    reached: dict[TopicPartition, int] | None = None,
) -> Iterator[Any]:
    """Committed records of each partition in [from, to). Ends when all ranges are read, or when
    nothing came for `timeout_s`; `reached` is told how far each range was read."""
    ranges = {tp: r for tp, r in ranges.items() if r[0] < r[1]}
    if not ranges:
        return
    with consumer(bootstrap) as client:
        client.assign(list(ranges))
        for tp, (begin, _) in ranges.items():
            client.seek(tp, begin)
        unread, deadline = set(ranges), time.monotonic() + timeout_s
        while unread and time.monotonic() < deadline:
            # short polls: one that meets only commit markers moves the position but does not return
            for tp, found in client.poll(timeout_ms=50).items():
                deadline = time.monotonic() + timeout_s
                yield from (record for record in found if record.offset < ranges[tp][1])
            at = {tp: client.position(tp) for tp in unread}
            if reached is not None:
                reached.update(at)
            unread = {tp for tp in unread if at[tp] < ranges[tp][1]}


def topic_config(client: KafkaAdminClient, topic: str) -> dict[str, str]:
    """Configuration of a topic where it differs from the broker's defaults."""
    found = client.describe_configs([ConfigResource("TOPIC", topic)])
    mine = next(iter(found.values()))[topic]
    return {name: entry["value"] for name, entry in mine.items()}


def delete_before(client: KafkaAdminClient, offsets: Mapping[TopicPartition, int]) -> None:
    """Remove every record before the offset in each partition."""
    client.delete_records(dict(offsets))
