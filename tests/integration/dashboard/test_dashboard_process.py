"""The dashboard against a real broker, and as a process that finds nobody there."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from rondo_cli.topics import create_catalogue
from rondo_common import kafka as clients
from rondo_common.topics import EVENTS, INBOUND, dlq
from services.dashboard.clients.broker import READ_UP_TO, Broker
from services.dashboard.dead import by_topic
from tests.support.servers import start_kafka
from tests.support.service_process import ServiceProcess
from tests.support.slowness import ANSWER_S, PATIENT

pytestmark = pytest.mark.integration


def until(read: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + PATIENT * seconds
    while not read():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str]:
    """A broker of its own: what is written here on purpose would disturb the tests that share one."""
    server, _ = start_kafka(tmp_path)
    yield f"127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture
def broker(kafka: str) -> Iterator[Broker]:
    create_catalogue(kafka, 8, 1)
    made = Broker(kafka, lambda: ["profiles", "community"])
    made.every_s = 0.2
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(15)


def test_backlog_and_dead_letters_of_a_real_broker(kafka: str, broker: Broker):
    producer = clients.transactional_producer(kafka, "dashboard-test")
    producer.init_transactions(10)
    for reason in (b"not_json", b"not_json", b"unknown_version"):
        producer.begin_transaction()  # one each: their marks take offsets too
        producer.produce(dlq(EVENTS), b"x", b"k", headers=[("rondo-dlq-reason", reason)])
        producer.commit_transaction(10)
    producer.begin_transaction()
    producer.produce(dlq(EVENTS), b"x", b"k", headers=[("rondo-dlq-reason", b"never")])
    producer.abort_transaction(10)
    plain = clients.producer(kafka)
    for i in range(40):
        plain.produce(EVENTS, b"x", str(i).encode())
    for _ in range(READ_UP_TO + 5):
        plain.produce(dlq(INBOUND), b"x", b"one key", partition=0)
    plain.flush(10)

    until(lambda: len(by_topic(broker.graves)) == 2 and broker.backlog.get("profiles", {})[EVENTS].behind >= 40)
    many, few = by_topic(broker.graves)
    assert (many.topic, many.count, many.exact) == (INBOUND, READ_UP_TO + 5, False)
    assert (few.topic, few.count, few.exact) == (EVENTS, 3, True)
    assert few.reasons == {"not_json": 2, "unknown_version": 1}

    consumer = clients.reader(kafka, "rondo.profiles")
    ends = clients.end_offsets(clients.admin(kafka), [(EVENTS, p) for p in range(8)])
    consumer.commit(offsets=[clients.TopicPartition(*where, end) for where, end in ends.items()], asynchronous=False)
    consumer.close()
    until(lambda: broker.backlog["profiles"][EVENTS].behind == 0 and broker.backlog["profiles"][EVENTS].handled >= 40)


def test_alone_it_is_ready_and_says_whom_it_misses(tmp_path: Path, free_port: Callable[[], int]):
    nobody = f"http://127.0.0.1:{free_port()}"
    env = {
        "RONDO_KAFKA": f"127.0.0.1:{free_port()}",
        "RONDO_URL_GATEWAY": nobody,
        "RONDO_URL_CAPTURE": nobody,
        "RONDO_SERVICES": f"profiles={nobody},rhythm={nobody}",
        "RONDO_ADMIN_KEY": "rk_x",
        "RONDO_STATE_FILE": str(tmp_path / "no.json"),
    }
    with ServiceProcess("dashboard", env, tmp_path, free_port) as service:
        page = ""

        def named() -> bool:
            nonlocal page
            page = httpx.get(service.http, timeout=10).text
            return "<strong>Kafka</strong> can’t be read" in page and "the gateway does not answer" in page

        until(named)
        for name in ("profiles", "rhythm", "capture"):
            assert f"<strong>{name}</strong>: does not answer" in page
        answer = httpx.get(service.http + "/readyz", timeout=ANSWER_S)
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert "rondo_http_request_seconds" in httpx.get(service.http + "/metrics", timeout=ANSWER_S).text
