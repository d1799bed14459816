"""A broker of one that was killed, and one that ended in order, start again. The fault behind it is a race inside the
broker; what is shown is that the way round it is taken, and that nothing stays open."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from rondo_cli import broker
from rondo_cli.local import settle
from rondo_common import kafka as clients
from tests.support.servers import Running, start_kafka
from tests.support.stream_rig import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
TOPIC, PARTITIONS = "open", 8
LEFT_MS = 15_000
"""After which the coordinator aborts what is left open: long enough to be seen before, also on a busy machine."""


def _open_transaction(bootstrap: str) -> Producer:
    """One record in each partition, neither committed nor aborted."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "x", "transaction.timeout.ms": LEFT_MS})
    producer.init_transactions(60)
    producer.begin_transaction()
    for p in range(PARTITIONS):
        producer.produce(TOPIC, b"x", partition=p)
    assert producer.flush(30) == 0
    return producer


def _open(server: Running) -> int:
    """Partitions that readers of committed records do not get to the end of."""
    admin = clients.admin(f"127.0.0.1:{server.port}")
    places = [(TOPIC, p) for p in range(PARTITIONS)]
    ends, decided = (clients.end_offsets(admin, places, committed=c) for c in (False, True))
    return sum(decided[place] < ends[place] for place in places)


def test_a_killed_broker_leaves_no_transaction_open(tmp_path: Path) -> None:
    server, where = start_kafka(tmp_path)
    try:
        broker.create_topics(where.bootstrap, {TOPIC: (PARTITIONS, 1, {})})
        assert not (tmp_path / "settle.out").exists(), "a new folder needs nothing"
        left_open = _open_transaction(where.bootstrap)
        assert _open(server) == PARTITIONS
        server.kill()
        assert settle.killed(tmp_path)
        server.start()
        assert "handleBrokerFenced: changing" in (tmp_path / "settle.out").read_text()
        wait_until(lambda: not _open(server), "the coordinator has aborted it, with its markers")
        del left_open
    finally:
        server.stop()


def test_a_broker_that_ended_in_order_starts_at_once(tmp_path: Path) -> None:
    """It has said goodbye to its controller: nobody waits for the end of its session."""
    server, where = start_kafka(tmp_path)
    try:
        broker.create_topics(where.bootstrap, {TOPIC: (PARTITIONS, 1, {})})
        server.stop()
        assert not settle.killed(tmp_path)
        began = time.monotonic()
        server.start()
        wait_until(lambda: not _open(server), "it leads its partitions")
        assert time.monotonic() - began < settle.SESSION_MS / 1000
        assert not (tmp_path / "settle.out").exists()
    finally:
        server.stop()
