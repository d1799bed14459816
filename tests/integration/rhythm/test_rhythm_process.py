"""The rhythm process on real Kafka and Redis: policies by gRPC, decisions exactly once over kills."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka import Consumer

from rondo_common import kafka as clients
from rondo_common import rpc, topics
from rondo_common.clock import iso
from rondo_common.problems import Problem
from rondo_common.records import Decision, Delivery, Send, Touch
from rondo_protos.rhythm.v1 import rhythm_pb2 as pb
from rondo_protos.rhythm.v1 import rhythm_pb2_grpc
from tests.support.rhythm_samples import contact, touch
from tests.support.service_process import ServiceProcess
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration

SENDS = [topics.sends(c, lane) for c in ("email", "sms") for lane in topics.LANES]


class Log:
    """Writes to and reads from the topics around the gate."""

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
        self.consumer.subscribe([topics.DECISIONS, *SENDS])
        self.decisions: list[Decision] = []
        self.sends: list[Send] = []
        self.mine: set[str] = set()
        """Touches written here: the broker is shared, and other tests leave touches of theirs."""

    def write(self, topic: str, key: str, value: object) -> None:
        if isinstance(value, Touch):
            self.mine.add(value.touch_id)
        self.producer.produce(topic, key=key, value=msgspec.json.encode(value))

    def flush(self) -> None:
        assert self.producer.flush(10) == 0

    def read(self, decisions: int, quiet_s: float = 0.0) -> None:
        """Until there are so many decisions; then for `quiet_s` more, for those that should not come."""
        deadline = time.monotonic() + PATIENT * 60
        end = None
        while end is None or time.monotonic() < end:
            assert end is not None or time.monotonic() < deadline, f"{len(self.decisions)} of {decisions} decisions"
            for m in self.consumer.consume(500, 0.2):
                assert m.error() is None, m.error()
                decided = m.topic() == topics.DECISIONS
                found = msgspec.json.decode(m.value(), type=Decision if decided else Send)
                if found.touch_id in self.mine:
                    (self.decisions if decided else self.sends).append(found)
            if end is None and len(self.decisions) >= decisions:
                end = time.monotonic() + quiet_s


@pytest.fixture
def log(kafka: str) -> Iterator[Log]:
    log = Log(kafka)
    yield log
    log.consumer.close()


@pytest.fixture
def service(kafka: str, redis_url: str, topics, tmp_path, free_port) -> Iterator[ServiceProcess]:
    topics.catalogue()
    env = {"RONDO_KAFKA": kafka, "RONDO_REDIS": redis_url, "RONDO_SECRET": "s", "RONDO_SLOT": uuid.uuid4().hex[:6]}
    with ServiceProcess("rhythm", env, tmp_path, free_port) as service:
        yield service


def test_policies_budgets_and_kills(service: ServiceProcess, log: Log):
    with rpc.blocking_channel(service.grpc, "rhythm") as channel:
        stub = rhythm_pb2_grpc.RhythmServiceStub(channel)
        body = json.dumps({"limit": 1, "per": "P1D"}).encode()
        put = pb.PutPolicyRequest(workspace="demo", kind="budget", id="daily", body_json=body, actor="test")
        assert stub.PutPolicy(put, timeout=20).policy.version == 1
        assert stub.PutPolicy(put, timeout=20).policy.version == 1, "the same body is the same version"
        with pytest.raises(Problem) as refused:
            stub.PutPolicy(pb.PutPolicyRequest(workspace="demo", kind="budget", id="x", body_json=b'{"limit":1}'))
        assert refused.value.status == 422
        with pytest.raises(Problem) as missing:
            stub.GetPolicy(pb.GetPolicyRequest(workspace="other", kind="budget", id="daily"))
        assert missing.value.status == 404
        listed = stub.ListPolicies(pb.ListPoliciesRequest(workspace="demo")).policies
        assert [(p.kind, p.id, json.loads(p.body_json)["limit"]) for p in listed] == [("budget", "daily", 1)]
        with pytest.raises(Problem) as later:
            stub.Simulate(pb.SimulateRequest(workspace="demo"))
        assert later.value.status == 501

    members = [f"m{i}" for i in range(300)]
    for m in members:
        log.write(topics.CONTACTS, f"demo:{m}", contact(m))
    log.flush()
    half = len(members) // 2
    for m in members[:half]:
        log.write(topics.touches("bulk"), f"demo:{m}", touch(f"a-{m}", m))
    log.flush()
    service.kill()
    for m in members:
        log.write(topics.touches("triggered"), f"demo:{m}", touch(f"b-{m}", m, lane="triggered"))
    for m in members[half:]:
        log.write(topics.touches("bulk"), f"demo:{m}", touch(f"a-{m}", m))
    log.flush()
    service.start()
    log.read(2 * len(members), quiet_s=1.0)

    assert len(log.decisions) == 2 * len(members), "each touch is decided once"
    assert Counter(d.verdict for d in log.decisions) == {"send": len(members), "defer": len(members)}
    assert len({s.member_id for s in log.sends}) == len(log.sends) == len(members), "one a member: the budget"
    assert {d.reason for d in log.decisions if d.verdict == "defer"} == {"budget_exceeded"}

    sent = log.sends[0]
    other = "b-" if sent.touch_id.startswith("a-") else "a-"
    now = iso(int(time.time() * 1000))
    log.write(
        topics.DELIVERIES,
        f"demo:{sent.member_id}",
        Delivery("demo", "d1", sent.touch_id, sent.member_id, "email", "smtp", "returned", now, sent.attempt),
    )
    log.flush()
    log.read(2 * len(members) + 1)
    again = log.decisions[-1]
    assert (again.touch_id, again.attempt, again.verdict) == (sent.touch_id, 2, "send")

    with rpc.blocking_channel(service.grpc, "rhythm") as channel:
        stub = rhythm_pb2_grpc.RhythmServiceStub(channel)
        asked = {"workspace": "demo", "member_id": sent.member_id}
        budget = json.loads(stub.GetBudget(pb.GetBudgetRequest(**asked)).body_json)
        assert [(p["policy"], p["used"], p["left"]) for p in budget["policies"]] == [("daily@1", 1, 0)]
        assert [e["touch_id"] for e in budget["entries"]] == [sent.touch_id]
        agenda = json.loads(stub.GetAgenda(pb.GetAgendaRequest(**asked)).body_json)
        assert [(t["touch_id"], t["status"]) for t in agenda["touches"]] == [
            (f"{other}{sent.member_id}", "deferred"),
            (sent.touch_id, "sent"),
        ]
        nobody = json.loads(stub.GetAgenda(pb.GetAgendaRequest(workspace="demo", member_id="nobody")).body_json)
        assert nobody["touches"] == []
    assert service.stop() == 0
