"""The links process: a click reaches the log, and works before Kafka is there."""

import time
import uuid

import httpx
import msgspec
import pytest
from confluent_kafka import Consumer

from rondo_common.links import Link, Signer
from rondo_common.records import Engagement
from rondo_common.topics import ENGAGEMENT
from tests.support.service_process import ServiceProcess
from tests.support.slowness import ANSWER_S, PATIENT

pytestmark = pytest.mark.integration

BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36"}


def link(kind: str, touch: str, url: str = "") -> str:
    return Signer("s").url("", Link(kind, "demo", "m1", touch, "r1", "spring", "email", "offers", url))


def test_engagement_reaches_the_log(kafka: str, topics, tmp_path, free_port):
    topics.catalogue(ENGAGEMENT)
    touch = uuid.uuid4().hex
    with ServiceProcess("links", {"RONDO_KAFKA": kafka, "RONDO_SECRET": "s"}, tmp_path, free_port) as service:
        with httpx.Client(base_url=service.http, headers=BROWSER, timeout=ANSWER_S) as http:
            assert http.get(link("click", touch, "https://x.example/")).headers["location"] == "https://x.example/"
            assert http.get(link("open", touch)).status_code == 200
            assert http.post(link("unsubscribe", touch), data={"List-Unsubscribe": "One-Click"}).status_code == 200
        consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": touch,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([ENGAGEMENT])
        found: dict[str, Engagement] = {}
        deadline = time.monotonic() + PATIENT * 30
        while len(found) < 3 and time.monotonic() < deadline:
            for m in consumer.consume(50, 0.2):
                if m.error() is None and m.key() == b"demo:m1":
                    e = msgspec.json.decode(m.value(), type=Engagement)
                    if e.touch_id == touch:
                        found[e.kind] = e
        consumer.close()
        assert {k: e.actor for k, e in found.items()} == dict.fromkeys(("clicked", "opened", "unsubscribed"), "human")
        assert service.stop() == 0


def test_without_kafka(tmp_path, free_port):
    nowhere = {"RONDO_KAFKA": f"127.0.0.1:{free_port()}", "RONDO_SECRET": "s"}
    with (
        ServiceProcess("links", nowhere, tmp_path, free_port) as service,
        httpx.Client(base_url=service.http, timeout=ANSWER_S) as http,
    ):
        assert http.get(link("click", "t1", "https://x.example/")).status_code == 302
        ready = http.get("/readyz")
        assert ready.status_code == 200
        assert "Kafka does not answer" in ready.json()["detail"]
        assert http.post(link("unsubscribe", "t1")).status_code == 503
