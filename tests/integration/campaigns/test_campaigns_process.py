"""The campaigns process on real Kafka and Redis: definitions and control by gRPC, touches exactly once over
kills, counts that sum in every answer."""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer

from rondo_common import ids, rpc, topics
from rondo_common import kafka as clients
from rondo_common.clock import Clock, iso
from rondo_common.definitions import DefinitionStore
from rondo_common.problems import Problem
from rondo_common.records import Decision, Delivery, MembershipChange, Touch
from rondo_common.settings import Settings
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from rondo_protos.campaigns.v1 import campaigns_pb2_grpc
from tests.support.campaigns_world import BROADCAST, TRIGGERED, member
from tests.support.service_process import ServiceProcess
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration

WS = "demo"
TEMPLATE = {"email": {"from": "a@example.com", "subject": "Hi", "text": "hi"}, "sms": {"text": "hi"}}


def now() -> str:
    return iso(time.time_ns() // 1_000_000)


class Surroundings:
    """What stands around campaigns: the gate and delivery let everything through, each report twice."""

    def __init__(self, bootstrap: str):
        self.producer = clients.producer(bootstrap)
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"test-{uuid.uuid4().hex}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self.consumer.subscribe([topics.touches(lane) for lane in topics.LANES])
        self.touches: list[Touch] = []
        self.ends: list[tuple[str, int]] = []

    def write(self, topic: str, key: str, value: Any, partition: int = -1) -> None:
        self.producer.produce(topic, msgspec.json.encode(value), key, partition, headers={"ce_id": uuid.uuid4().hex})
        self.producer.poll(0)

    def members(self, segment: str, count: int) -> None:
        for n in range(count):
            change = MembershipChange(WS, segment, 1, "entered", now(), now(), f"{segment}-{n}", member(n))
            self.write(topics.MEMBERSHIP_CHANGES, ids.member_key(WS, member(n)), change)
        for p in range(8):
            live = MembershipChange(WS, segment, 1, "live", now(), now(), f"{segment}-live-{p}")
            self.write(topics.MEMBERSHIP_CHANGES, f"{WS}:segment:{segment}", live, p)
        assert self.producer.flush(20) == 0

    def read(self, wait_s: float = 0.2) -> list[Touch]:
        """Touches that have come meanwhile."""
        new = []
        for m in self.consumer.consume(2000, wait_s):
            assert m.error() is None, m.error()
            touch = msgspec.json.decode(m.value(), type=Touch)
            if touch.kind == "end":
                self.ends.append((touch.run_id, m.partition()))
            else:
                new.append(touch)
        self.touches += new
        return new

    def of(self, run_id: str) -> list[Touch]:
        """What has come of one run."""
        return [t for t in self.touches if t.run_id == run_id]

    def decide(self, t: Touch, verdict: str = "send", reason: str | None = None) -> None:
        key = ids.member_key(WS, t.member_id)
        id = ids.derived(t.touch_id, "1")
        decision = Decision(
            WS, id, t.touch_id, 1, t.campaign, t.version, t.run_id, "main", t.member_id, "email", now(), verdict, []
        )
        for _ in range(2):
            self.write(topics.DECISIONS, key, msgspec.structs.replace(decision, reason=reason))

    def deliver(self, t: Touch, status: str = "accepted", reason: str | None = None) -> None:
        key = ids.member_key(WS, t.member_id)
        value = Delivery(
            WS, f"{t.touch_id}.{status}", t.touch_id, t.member_id, "email", "smtp", status, now(), run_id=t.run_id
        )
        for _ in range(2):
            self.write(topics.DELIVERIES, key, msgspec.structs.replace(value, reason=reason))

    def flush(self) -> None:
        assert self.producer.flush(20) == 0


@pytest.fixture
def around(kafka: str, topics) -> Iterator[Surroundings]:
    topics.catalogue()
    around = Surroundings(kafka)
    yield around
    around.consumer.close()


@pytest.fixture
def service(around: Surroundings, kafka: str, redis_flushed: str, tmp_path, free_port) -> Iterator[ServiceProcess]:
    env = {
        "RONDO_KAFKA": kafka,
        "RONDO_REDIS": redis_flushed,
        "RONDO_GRPC_SEGMENTATION": f"127.0.0.1:{free_port()}",
        "RONDO_SLOT": uuid.uuid4().hex[:6],
    }
    with ServiceProcess("campaigns", env, tmp_path, free_port) as service:
        yield service


@pytest.fixture
def segments(kafka: str, redis_flushed: str, service: ServiceProcess) -> Iterator[Callable[[str], None]]:
    """Stands for segmentation: makes a segment's definition."""
    store = DefinitionStore(Settings(service="test", kafka=kafka, redis=redis_flushed), Clock())
    store.start()
    until(lambda: store.ready()[0], "definitions")

    async def put(id: str) -> None:
        await store.put(WS, "segment", id, {"rule": {}})

    def make(id: str) -> None:
        asyncio.run(put(id))

    yield make
    store.stop()


@pytest.fixture
def stub(service: ServiceProcess) -> Iterator[Any]:
    with rpc.blocking_channel(service.grpc, "campaigns") as channel:
        yield campaigns_pb2_grpc.CampaignsServiceStub(channel)


def until(good: Callable[[], Any], what: str, patience_s: float = 40) -> Any:
    deadline = time.monotonic() + PATIENT * patience_s
    while not (found := good()):
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.03)
    return found


def run(stub: Any, run_id: str) -> dict[str, Any]:
    """The run; asserts what every answer must hold. None while a partition is being restored."""
    try:
        found = json.loads(stub.GetRun(pb.GetRunRequest(workspace=WS, run_id=run_id)).run_json)
    except Problem as p:
        assert p.status == 503
        return {}
    assert sum(found["counts"].values()) == found["touches"], found
    for bucket, reasons in found["reasons"].items():
        assert sum(reasons.values()) == found["counts"][bucket]
    return found


def put(stub: Any, template: str, campaign: str, body: dict[str, Any]) -> None:
    stub.PutTemplate(
        pb.PutTemplateRequest(workspace=WS, id=template, body_json=json.dumps(TEMPLATE).encode()), timeout=20
    )
    raw = json.dumps({**body, "template": template}).encode()
    made = stub.PutCampaign(pb.PutCampaignRequest(workspace=WS, id=campaign, body_json=raw), timeout=20)
    assert made.created and made.campaign.version == 1


def start(stub: Any, campaign: str, key: str = "") -> str:
    return stub.StartCampaign(
        pb.StartCampaignRequest(workspace=WS, campaign=campaign, idempotency_key=key), timeout=20
    ).run_id


def test_a_broadcast_over_kills(service: ServiceProcess, stub: Any, around: Surroundings, segments) -> None:
    segments("loyal")
    around.members("loyal", 3000)
    put(stub, "spring", "spring", BROADCAST)
    with pytest.raises(Problem) as refused:
        raw = json.dumps({**BROADCAST, "audience": {"segment": "unheard-of"}}).encode()
        stub.PutCampaign(pb.PutCampaignRequest(workspace=WS, id="x", body_json=raw))
    assert refused.value.status == 503, "segmentation is down: nobody can say whether there is such a segment"

    run_id = start(stub, "spring", "key-1")
    assert start(stub, "spring", "key-1") == run_id
    done = 0
    for kill_at in (1, 1500, None):
        deadline = time.monotonic() + PATIENT * 60
        while done < (3000 if kill_at is None else kill_at):
            assert time.monotonic() < deadline, f"{done} touches"
            for t in around.read():
                done += 1
                match done % 100:
                    case 0:
                        around.decide(t, "skip", "consent_missing")
                    case 1:
                        around.decide(t)
                        around.deliver(t, "rejected", "hard_bounce")
                    case _:
                        around.deliver(t)
                        around.decide(t)
            run(stub, run_id)
        around.flush()
        if kill_at is not None:
            service.kill()
            service.start()
    found = until(lambda: (f := run(stub, run_id)) and f["status"] == "finished" and f, "the run finishes")
    assert (found["audience"], found["touches"]) == (3000, 3000)
    assert {k: n for k, n in found["counts"].items() if n} == {"sent": 2940, "skipped": 30, "failed": 30}
    assert found["reasons"]["skipped"] == {"consent_missing": 30} and found["finished_at"]
    around.read(1.0)
    assert Counter(t.touch_id for t in around.touches).most_common(1)[0][1] == 1
    assert {t.member_id for t in around.touches} == {member(n) for n in range(3000)}
    assert sorted(around.ends) == [(run_id, p) for p in range(8)]
    assert service.stop() == 0


def test_control_and_triggers(service: ServiceProcess, stub: Any, around: Surroundings) -> None:
    put(stub, "cart", "cart", {**TRIGGERED, "trigger": {"api": True}})
    open_run = start(stub, "cart")
    with pytest.raises(Problem) as running:
        start(stub, "cart")
    assert running.value.status == 409
    named = [pb.Recipient(member_id=member(n), data_json=b'{"n":%d}' % n) for n in range(200)]
    ask = pb.TriggerCampaignRequest(workspace=WS, campaign="cart", recipients=named, idempotency_key="k")
    answer = stub.TriggerCampaign(ask, timeout=20)
    assert answer.accepted == 200 and stub.TriggerCampaign(ask, timeout=20).run_id == answer.run_id
    mine = until(lambda: around.read() is not None and len(f := around.of(answer.run_id)) >= 200 and f, "touches")
    until(lambda: run(stub, answer.run_id).get("counts", {}).get("pending") == 200, "all are counted")

    stub.PauseCampaign(pb.PauseCampaignRequest(workspace=WS, campaign="cart"), timeout=20)
    until(lambda: run(stub, open_run)["status"] == "paused", "paused")
    with pytest.raises(Problem) as paused:
        stub.TriggerCampaign(ask, timeout=20)
    assert paused.value.status == 409
    stub.ResumeCampaign(pb.ResumeCampaignRequest(workspace=WS, campaign="cart"), timeout=20)
    until(lambda: run(stub, open_run)["status"] == "running", "resumed")
    stub.CancelCampaign(pb.CancelCampaignRequest(workspace=WS, campaign="cart"), timeout=20)
    until(lambda: run(stub, open_run)["status"] == "cancelled", "cancelled")
    for t in mine:
        around.decide(t, "skip", "campaign_cancelled")
    around.flush()
    found = until(lambda: (f := run(stub, answer.run_id))["counts"]["skipped"] == 200 and f, "skipped")
    assert found["reasons"]["skipped"] == {"campaign_cancelled": 200} and found["status"] == "finished"
    assert len(around.of(answer.run_id)) == 200 and {t.lane for t in mine} == {"triggered"}

    send = pb.SendRequest(workspace=WS, channel="email", member_id=member(1), template="cart", idempotency_key="s")
    touch_id = stub.Send(send, timeout=20).touch_id
    assert stub.Send(send, timeout=20).touch_id == touch_id
    until(lambda: around.read() is not None and around.of("transactional"), "the send")
    around.read(1.0)
    sent = [(t.touch_id, t.lane, t.template_version) for t in around.of("transactional")]
    assert sent == [(touch_id, "transactional", 1)]

    listed = [json.loads(r) for r in stub.ListRuns(pb.ListRunsRequest(workspace=WS, campaign="cart")).runs_json]
    assert {r["run_id"] for r in listed} == {open_run, answer.run_id}
    shown = stub.GetCampaign(pb.GetCampaignRequest(workspace=WS, id="cart")).campaign
    assert json.loads(shown.body_json)["status"] == "cancelled"
