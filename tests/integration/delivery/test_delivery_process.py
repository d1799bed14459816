"""The e-mail worker as it runs, on real Kafka, Redis and SMTP: killed over and over, nothing twice."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from confluent_kafka import Consumer

from rondo_common import kafka as clients
from rondo_common import rpc, topics
from rondo_common.clock import iso
from rondo_common.partition import PARTITIONS
from rondo_common.problems import Problem
from rondo_common.records import Command, ConsentEntry, Contact, Definition, Delivery, Profile, Send
from rondo_protos.delivery.v1 import delivery_pb2 as pb
from rondo_protos.delivery.v1 import delivery_pb2_grpc
from tests.support.providers import SmtpServer
from tests.support.service_process import ServiceProcess
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration

BODY = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName }}",
        "html": "<p>Hi {{ member.firstName }}, <a href='https://shop.example/'>look</a></p>",
    },
    "sms": {"text": "Hi {{ member.firstName }} {{ trigger.code }}"},
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Log:
    """Writes what delivery reads, reads what it writes. Each has a workspace of its own: the topics are
    the session's."""

    def __init__(self, bootstrap: str):
        self.workspace = f"w{uuid.uuid4().hex[:8]}"
        self.producer = clients.producer(bootstrap)
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"test-{uuid.uuid4().hex}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        self.consumer.subscribe([topics.DELIVERIES])
        self.deliveries: list[Delivery] = []

    def write(self, topic: str, key: str, value: Any, partition: int | None = None) -> None:
        more = {} if partition is None else {"partition": partition}
        self.producer.produce(topic, key=key, value=msgspec.json.encode(value), **more)

    def flush(self) -> None:
        assert self.producer.flush(10) == 0

    def command(self, kind: str, **more: Any) -> None:
        for p in range(PARTITIONS):
            made = Command(kind=kind, workspace=self.workspace, id=uuid.uuid4().hex, at=iso(now_ms()), **more)
            self.write(topics.COMMANDS, f"{self.workspace}:{kind}", made, p)
        self.flush()

    def template(self) -> None:
        body = msgspec.Raw(msgspec.json.encode(BODY))
        self.command("definition.activated", definition=Definition(self.workspace, "template", "t", 1, body, iso(0)))

    def members(self, count: int) -> None:
        for i in range(count):
            granted = [ConsentEntry("email", "*", "granted", iso(0), "e")]
            key, member = f"{self.workspace}:m{i}", f"m{i}"
            contact = Contact(self.workspace, member, email=f"m{i}@example.com", consents=granted)
            self.write(topics.CONTACTS, key, contact)
            traits = {"firstName": msgspec.Raw(b'"M%d"' % i)}
            self.write(topics.PROFILES, key, Profile(self.workspace, member, traits=traits))
        self.flush()

    def send(self, i: int, touch: str, lane: str = "bulk", campaign: str = "spring") -> None:
        at = now_ms()
        send = Send(
            workspace=self.workspace,
            touch_id=touch,
            decision_id="d",
            attempt=1,
            run_id="r",
            campaign=campaign,
            version=1,
            step="main",
            member_id=f"m{i}",
            channel="email",
            lane=lane,
            class_="marketing",
            topic="offers",
            not_before=iso(at),
            send_by=iso(at + 300_000),
            template="t",
            template_version=1,
        )
        self.write(topics.sends("email", lane), f"{self.workspace}:m{i}", send)

    def read(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + PATIENT * seconds
        while not until():
            assert time.monotonic() < deadline, Counter(d.status for d in self.deliveries)
            for m in self.consumer.consume(500, 0.05):
                assert m.error() is None, m.error()
                found = msgspec.json.decode(m.value(), type=Delivery)
                if found.workspace == self.workspace:
                    self.deliveries.append(found)

    def outcomes(self) -> dict[str, list[str]]:
        """What was said of each touch, in order."""
        said: dict[str, list[str]] = {}
        for d in self.deliveries:
            said.setdefault(d.touch_id, []).append(d.status)
        return said


@pytest.fixture
def log(kafka: str, topics) -> Iterator[Log]:  # type: ignore[no-untyped-def]
    topics.catalogue()
    made = Log(kafka)
    made.template()
    yield made
    made.consumer.close()


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer(latency=0.01) as server:
        yield server


@pytest.fixture
def service(
    kafka: str, redis_url: str, log: Log, smtp: SmtpServer, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[ServiceProcess]:
    env = {
        "RONDO_KAFKA": kafka,
        "RONDO_REDIS": redis_url,
        "RONDO_SECRET": "s",
        "RONDO_SMTP_URL": smtp.url,
        "RONDO_SLOT": "0",
        "RONDO_DATA_DIR": str(tmp_path),
    }
    with ServiceProcess("delivery-email", env, tmp_path, free_port) as made:
        yield made


def test_render_and_status(service: ServiceProcess) -> None:
    with rpc.blocking_channel(service.grpc, "delivery") as channel:
        stub = delivery_pb2_grpc.DeliveryServiceStub(channel)
        body = msgspec.json.encode(BODY)
        profile = b'{"member_id":"m1","traits":{"firstName":"Ann"}}'
        mail = stub.Render(pb.RenderRequest(workspace="d", channel="email", template_json=body, profile_json=profile))
        assert (mail.subject, mail.sender, list(mail.missing)) == ("Hi Ann", "Shop <hi@example.com>", [])
        assert "/l/" in mail.html and "Hi Ann" in mail.text
        sms = stub.Render(pb.RenderRequest(workspace="d", channel="sms", template_json=body, data_json=b'{"code":"X"}'))
        assert (sms.text, list(sms.missing), sms.segments) == ("Hi  X", ["member.firstName"], 1)
        for bad in ({"channel": "fax"}, {"channel": "messaging"}, {"channel": "sms", "data_json": b"[]"}):
            with pytest.raises(Problem) as refused:
                stub.Render(pb.RenderRequest(workspace="d", **{"template_json": body, **bad}))
            assert refused.value.status == 422 and refused.value.errors
        status = stub.Status(pb.StatusRequest(workspace="d"))
        assert (status.channel, status.provider, status.breaker, status.in_flight) == ("email", "smtp", "closed", 0)


def test_pause_and_resume_over_the_wire(service: ServiceProcess, log: Log, smtp: SmtpServer) -> None:
    log.members(40)
    log.command("campaign.pause", campaign="spring")
    for i in range(40):
        log.send(i, f"{log.workspace}-{i}")
        log.send(i, f"{log.workspace}-other-{i}", campaign="other")
    log.flush()
    log.read(lambda: len(log.outcomes()) == 40)
    assert {t.split("-")[1] for t in log.outcomes()} == {"other"}, "what lay behind them went, they did not"
    assert smtp.touches() == dict.fromkeys(log.outcomes(), 1)
    log.command("campaign.resume", campaign="spring")
    log.read(lambda: len(log.outcomes()) == 80)
    assert smtp.touches() == dict.fromkeys(log.outcomes(), 1)


def test_kills_repeat_nothing_and_lose_nothing(service: ServiceProcess, log: Log, smtp: SmtpServer) -> None:
    count, kills, most_open = 1000, 5, 16
    log.members(count)
    sent = [f"{log.workspace}-{i}" for i in range(count)]
    for i, touch in enumerate(sent):
        log.send(i, touch)
    log.flush()
    for k in range(1, kills + 1):
        goal = k * count // (kills + 2)
        log_deadline = time.monotonic() + PATIENT * 60
        while len(smtp.mails) < goal:
            assert time.monotonic() < log_deadline
            time.sleep(0.002)
        service.kill()
        service.start()
    log.read(lambda: len(log.outcomes()) == count, 120)
    said, taken = log.outcomes(), smtp.touches()
    assert set(said) == set(sent)
    assert [t for t, n in taken.items() if n > 1] == [], "sent twice"
    unknown = [t for t, s in said.items() if s == ["unknown"]]
    accepted = [t for t, s in said.items() if s[-1] == "accepted"]
    assert len(unknown) + len(accepted) == count
    assert [t for t in accepted if not taken[t]] == [], "said to be sent, but was not"
    assert len(unknown) <= kills * most_open
    print(f"{count} sends, {kills} kills: {len(accepted)} accepted, {len(unknown)} unknown")


def test_flushes_under_a_live_worker(service: ServiceProcess, log: Log, smtp: SmtpServer, redis_url: str) -> None:
    count = 600
    log.members(count)
    for i in range(count):
        log.send(i, f"{log.workspace}-{i}")
    log.flush()
    flushes = 0
    with redis.Redis.from_url(redis_url) as client:

        def flushed_and_done() -> bool:
            nonlocal flushes
            if len(smtp.mails) > flushes * count // 6 and flushes < 5:
                client.flushall()
                flushes += 1
            return len(log.outcomes()) == count

        log.read(flushed_and_done, 120)
    assert flushes == 5
    assert set(smtp.touches().values()) == {1} and len(smtp.touches()) == count
    assert {tuple(s) for s in log.outcomes().values()} == {("accepted",)}
