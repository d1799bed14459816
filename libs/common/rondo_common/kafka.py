"""The one place that makes confluent-kafka clients, with the settings that make them safe here.

Every producer hashes keys with murmur2 (librdkafka's own default is CRC32), so one key lies in the
same partition whoever writes it (`rondo_common.partition`). Everything else is looked up once, here.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    Producer,
    TopicCollection,
)
from confluent_kafka import KafkaException as KafkaException
from confluent_kafka import TopicPartition as TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

log = logging.getLogger("rondo.kafka")

MAX_RECORD = 8 * 1024 * 1024
"""Bytes of the largest record a producer hands over; topics may allow less (`topics.max_bytes`)."""
SESSION_MS = 6_000
HEARTBEAT_MS = 500
FETCH_WAIT_MS = 250
"""How long the broker holds a fetch that finds nothing; a partition resumed meanwhile waits as long (decision 22)."""
TRANSACTION_MS = 10_000
"""A worker that never returns delays its readers by at most this, and a second for the broker's clean-up."""
TIMEOUT_S = 20.0
"""How long one admin request may take."""

DEBUG = "RONDO_KAFKA_DEBUG"
"""Variable with librdkafka's debug contexts, such as "eos,cgrp", for a look inside the clients."""

Partition = tuple[str, int]
"""(topic, partition)."""


def _base(bootstrap: str, client_id: str) -> dict[str, Any]:
    debug = {"debug": os.environ[DEBUG], "log_level": 7} if os.environ.get(DEBUG) else {"log_level": 4}
    return debug | {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "socket.nagle.disable": True,
        # "rebootstrap", the default, tries again thousands of times a second while a lone broker is away
        "metadata.recovery.strategy": "none",
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
    }


def producer(bootstrap: str, client_id: str = "rondo", **more: Any) -> Producer:
    """A producer outside transactions: written at least once, in order, acknowledged by all replicas.
    `more` holds librdkafka settings with _ for dots ("linger_ms")."""
    config = _base(bootstrap, client_id) | {
        "partitioner": "murmur2_random",
        "acks": "all",
        "enable.idempotence": True,
        # of two writes on their way librdkafka calls the first one written, though it was refused, when the second is
        # taken; a partition that just gets its leader does both (decision 21)
        "max.in.flight.requests.per.connection": 1,
        "linger.ms": 5,
        "message.max.bytes": MAX_RECORD + 65_536,
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 20,
    }
    return Producer(config | _dotted(more), logger=log)


def transactional_producer(bootstrap: str, transactional_id: str, **more: Any) -> Producer:
    """A producer of the stream loop. A second one of the same id fences the first."""
    return producer(
        bootstrap,
        transactional_id,
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_MS,
        queue_buffering_max_messages=1_000_000,
        **more,
    )


def group_consumer(bootstrap: str, group: str, instance: str, **more: Any) -> Consumer:
    """A consumer of the stream loop: static member `instance` of `group`, classic protocol, partition p
    of all topics with one member (range), committed records only, no offset ever taken by itself."""
    config = _base(bootstrap, instance) | {
        "group.id": group,
        "group.instance.id": instance,
        "group.protocol": "classic",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "max.poll.interval.ms": 300_000,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 20,
        "fetch.error.backoff.ms": 100,
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 32_768,
    }
    return Consumer(config | _dotted(more), logger=log)


def reader(bootstrap: str, client_id: str, **more: Any) -> Consumer:
    """A consumer without group membership: assign it by hand; committed records only, tells when it
    is at the end (`KafkaError._PARTITION_EOF`), never commits."""
    config = _base(bootstrap, client_id) | {
        "group.id": client_id,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 20,
        "queued.min.messages": 50_000,
    }
    return Consumer(config | _dotted(more), logger=log)


def admin(bootstrap: str, client_id: str = "rondo-admin") -> AdminClient:
    """An admin client."""
    return AdminClient(_base(bootstrap, client_id), logger=log)


def _dotted(more: Mapping[str, Any]) -> dict[str, Any]:
    # the client's own callbacks (error_cb, stats_cb ...) keep their names
    return {name if name.endswith("_cb") else name.replace("_", "."): value for name, value in more.items()}


class TopicInfo(NamedTuple):
    """What the broker says about a topic. `id` changes when it is deleted and made again."""

    id: str
    partitions: int


def cluster_id(client: AdminClient, timeout_s: float) -> str:
    """The cluster's id. KafkaException when no broker answers for so long."""
    found: str = client.describe_cluster(request_timeout=timeout_s).result().cluster_id
    return found


def describe(client: AdminClient, names: Iterable[str]) -> dict[str, TopicInfo]:
    """The named topics that exist."""
    found = {}
    for name, future in client.describe_topics(TopicCollection(sorted(set(names))), request_timeout=TIMEOUT_S).items():
        try:
            topic = future.result()
        except KafkaException as e:
            if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise
        found[name] = TopicInfo(str(topic.topic_id), len(topic.partitions))
    return found


def topic_config(client: AdminClient, name: str) -> dict[str, str]:
    """The topic's configuration as the broker applies it."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = client.describe_configs([resource], request_timeout=TIMEOUT_S)[resource].result()
    return {entry.name: entry.value for entry in entries.values()}


def offsets(
    client: AdminClient, partitions: Iterable[Partition], spec: OffsetSpec, committed: bool = False
) -> dict[Partition, int]:
    """First or end offsets by (topic, partition). The end counts open transactions unless `committed`.
    KafkaException when the broker gives none for `TIMEOUT_S`."""
    wanted = {TopicPartition(topic, number): spec for topic, number in partitions}
    if not wanted:
        return {}
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            futures = client.list_offsets(wanted, isolation_level=level, request_timeout=TIMEOUT_S / 2)
            return {(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()}
        except KafkaException as e:
            # a young topic, or a broker that comes back: this client's idea of the leaders is out of date,
            # and librdkafka 2.16 does not renew it by itself for this request
            if time.monotonic() > deadline:
                raise
            log.info("log ends will be asked for again: %s", e.args[0])
            with suppress(KafkaException):
                client.list_topics(timeout=2.0)
            time.sleep(0.1)


def first_offsets(client: AdminClient, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Offset of the first record still kept, by (topic, partition)."""
    return offsets(client, partitions, OffsetSpec.earliest())


def end_offsets(client: AdminClient, partitions: Iterable[Partition], committed: bool = False) -> dict[Partition, int]:
    """Offset after the last record, by (topic, partition); `committed`: after the last a reader of
    committed records may see."""
    return offsets(client, partitions, OffsetSpec.latest(), committed)


class Commits:
    """Asks what consumer groups have committed, with a consumer in each one's name that never joins it. Not
    with the admin client: one that waits for a group's coordinator when the broker goes away ends the
    process, by an assertion of librdkafka's (https://github.com/confluentinc/librdkafka/issues/4605)."""

    def __init__(self, bootstrap: str, client_id: str):
        self._bootstrap, self._client_id = bootstrap, client_id
        self._consumers: dict[str, Consumer] = {}
        self._lock = threading.Lock()

    def of(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Committed offsets of the partitions that have one. KafkaException when the broker does not answer."""
        with self._lock:
            if (consumer := self._consumers.get(group)) is None:
                config = {
                    "group.id": group,
                    "enable.auto.commit": False,
                    # else an open transaction's offsets hold the answer back
                    "isolation.level": "read_uncommitted",
                }
                consumer = Consumer(_base(self._bootstrap, self._client_id) | config, logger=log)
                self._consumers[group] = consumer
        found = consumer.committed([TopicPartition(t, p) for t, p in partitions], timeout=TIMEOUT_S / 2)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()


def assign_from_start(consumer: Consumer, topic: str) -> dict[int, int]:
    """Assign every partition of `topic` to a `reader` from its first record. Returns the end offset of
    each as of now, so that the reader can tell when it has caught up. KafkaException without the topic."""
    metadata = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    ends = {
        p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=TIMEOUT_S)[1] for p in metadata.partitions
    }
    consumer.assign([TopicPartition(topic, p, 0) for p in ends])
    return ends


def is_eof(error: KafkaError | None) -> bool:
    """Whether a message is only the news that the reader is at the end of a partition."""
    return error is not None and error.code() == KafkaError._PARTITION_EOF
