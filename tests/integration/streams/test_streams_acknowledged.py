"""What a producer calls written is in the log, also when a young partition refuses its first write."""

import time

import pytest
from confluent_kafka import Producer

from rondo_common import kafka as clients
from tests.support.refusing import Refusing
from tests.support.servers import Topics
from tests.support.slowness import PATIENT
from tests.support.stream_rig import wait_until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("in_flight", [None, 5])
def test_a_write_that_was_refused_is_not_called_written(
    kafka: str, topics: Topics, transactional: bool, in_flight: int | None
) -> None:
    """Two writes at a time are librdkafka's own default: it then says of the refused one that it is written."""
    topic, other = topics("refused", partitions=1), topics("warm", partitions=1)
    more = {} if in_flight is None else {"max_in_flight_requests_per_connection": in_flight}
    told: list[bytes] = []
    with Refusing(kafka, topic) as door:
        if transactional:
            producer = clients.transactional_producer(door.bootstrap, f"by-{other}", **more)
            producer.init_transactions(30)
            producer.begin_transaction()
        else:
            producer = clients.producer(door.bootstrap, **more)
        producer.produce(other, b"so that the connection stands", partition=0)
        _written(producer)
        for value in (b"first", b"second"):
            producer.produce(
                topic, value, partition=0, on_delivery=lambda e, m: told.append(m.value()) if e is None else None
            )
            wait_until(lambda: not producer.poll(0.01) and door.held.is_set(), "the first write is on its way", 20)
        _written(producer)
        if transactional:
            producer.commit_transaction(30)
    assert told == [b"first", b"second"]
    assert _values(kafka, topic) == ([b"first", b"second"] if in_flight is None else [b"second"])


def _written(producer: Producer) -> None:
    assert producer.flush(30) == 0


def _values(kafka: str, topic: str) -> list[bytes]:
    """Every committed value of the topic's one partition."""
    reader = clients.reader(kafka, f"{topic}-reader")
    clients.assign_from_start(reader, topic)
    found: list[bytes] = []
    deadline = time.monotonic() + PATIENT * 30
    try:
        while time.monotonic() < deadline:
            message = reader.poll(0.1)
            if message is None:
                continue
            if clients.is_eof(message.error()):
                return found
            assert message.error() is None
            found.append(message.value())
    finally:
        reader.close()
    raise AssertionError(f"can't read {topic} to its end")
