"""The warehouse on the real engine and the real log: exactly once through kills, questions, protocol."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid

import msgspec
import pytest

from rondo_common import ids, rpc, warehouse
from rondo_common import kafka as clients
from rondo_common import topics as catalogue
from rondo_common.clock import from_iso
from rondo_common.records import Contact, Decision, Delivery, GateVerdict, MemberEvent
from rondo_protos.insights.v1 import insights_pb2, insights_pb2_grpc
from services.insights import queries
from services.insights.tables import TABLES
from services.segmentation.clients import WarehouseAudiences
from services.segmentation.parse import parse
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration
W = f"w{uuid.uuid4().hex[:8]}"
"""A workspace of its own: the broker is shared by the tests of a session."""


class Insights:
    """The process as shipped."""

    def __init__(self, kafka, folder, http, grpc):
        self.url = f"http://127.0.0.1:{http}"
        self.grpc = f"127.0.0.1:{grpc}"
        self.env = {
            **os.environ,
            "RONDO_KAFKA": kafka,
            "RONDO_DATA_DIR": str(folder),
            "RONDO_HTTP_PORT": str(http),
            "RONDO_GRPC_PORT": str(grpc),
            "RONDO_URL_WAREHOUSE": self.url,
            "RONDO_SERVICE": "insights",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        self.process = None

    def start(self, stdout=None):
        code = "from rondo_common.settings import load; from services.insights.main import main; raise SystemExit(main(load()))"
        self.process = subprocess.Popen([sys.executable, "-c", code], env=self.env, stdout=stdout)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def sql(self, statement, timeout=60.0):
        deadline = time.monotonic() + PATIENT * timeout
        while True:
            try:
                with urllib.request.urlopen(self.url, data=statement.encode(), timeout=10) as answer:
                    return answer.read().decode().strip()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def until(self, statement, wanted, timeout=90.0):
        deadline = time.monotonic() + PATIENT * timeout
        found = None
        while time.monotonic() < deadline:
            found = self.sql(statement)
            if found == wanted:
                return
            time.sleep(0.2)
        raise AssertionError(f"{statement}: {found!r}, not {wanted!r}")


@pytest.fixture
def insights(kafka, topics, tmp_path, free_port):
    topics.catalogue(*(t.topic for t in TABLES), catalogue.dlq(catalogue.MEMBER_EVENTS))
    running = Insights(kafka, tmp_path, free_port(), free_port())
    yield running
    if running.process and running.process.poll() is None:
        running.process.terminate()
        running.process.wait(10)


def _produce(kafka, topic, rows):
    producer = clients.producer(kafka, "test")
    for key, value, at in rows:
        producer.produce(topic, key=key, value=msgspec.json.encode(value), timestamp=at)
        producer.poll(0)
    assert producer.flush(30) == 0


def _events(start, count, at=1_700_000_000_000):
    for n in range(start, start + count):
        m = str(uuid.UUID(int=n % 97 + 1))
        e = MemberEvent(W, m, "track", f"id-{n}", "2026-01-01T00:00:00.5Z", name="Order", event_id=f"e{n}",
                        properties=msgspec.Raw(b'{"note":"it\'s \\\\ \\"quoted\\"\\n"}'))  # fmt: skip
        yield ids.member_key(W, m), e, at + n


def test_rows_are_there_once_however_often_the_process_dies(insights, kafka):
    poison = clients.producer(kafka, "poison")
    for value in (b"not json", b"[]", b"\xff"):  # stops nobody
        poison.produce(catalogue.MEMBER_EVENTS, key=b"p", value=value)
    assert poison.flush(30) == 0
    _produce(kafka, catalogue.MEMBER_EVENTS, _events(0, 2_000))
    insights.start()
    insights.until(f"SELECT count() > 0 FROM rondo.member_events WHERE workspace = '{W}'", "1")
    for round_ in range(1, 4):
        _produce(kafka, catalogue.MEMBER_EVENTS, _events(round_ * 2_000, 2_000))
        time.sleep(0.15 * round_)  # die at different moments of reading and inserting
        insights.kill()
        insights.start()
    insights.until(
        f"SELECT count(), uniqExact(id), uniqExact(_partition, _offset) FROM rondo.member_events WHERE workspace = '{W}'",
        "8000\t8000\t8000",
    )
    # the facts audiences are asked of: as many, each once, and again from the beginning when they are lost
    counted = (
        f"SELECT count(), uniqExact(_partition, _offset) FROM rondo.facts WHERE workspace = '{W}' AND what = 'e:Order'"
    )
    insights.until(counted, "8000\t8000")
    insights.sql("TRUNCATE TABLE rondo.facts")
    insights.kill()
    insights.start()
    insights.until(counted, "8000\t8000")
    body = insights.sql(f"SELECT json FROM rondo.member_events WHERE id = 'id-7' AND workspace = '{W}' FORMAT TSVRaw")
    assert msgspec.json.decode(body)["properties"] == {"note": 'it\'s \\ "quoted"\n'}


def test_questions_and_the_official_client(insights, kafka):
    def decision(n, at, verdict, reason=None, touch="t1"):
        return Decision(W, f"d{n}", touch, n, "spring", 1, "r1", "main", "mq", "sms", at, verdict,
                        [GateVerdict("consent", "pass")], reason=reason)  # fmt: skip

    key = ids.member_key(W, "mq")
    rows = [(key, decision(1, "2026-01-01T10:00:00Z", "defer", "quiet_hours"), 1), (key, decision(2, "2026-01-02T08:00:00Z", "send"), 2),
            (key, decision(1, "2026-01-02T08:00:00Z", "skip", "consent_missing", "t2"), 2)]  # fmt: skip
    _produce(kafka, catalogue.DECISIONS, rows)
    sent = Delivery(
        W, "dl1", "t1", "mq", "sms", "twilio", "accepted", "2026-01-02T08:00:01Z", run_id="r1", campaign="spring"
    )
    _produce(kafka, catalogue.DELIVERIES, [(key, sent, 3)])
    insights.start()
    insights.until(f"SELECT count() FROM rondo.decisions WHERE workspace = '{W}'", "3")
    insights.until(f"SELECT count() FROM rondo.deliveries WHERE workspace = '{W}'", "1")
    client = warehouse.connect(insights.url)
    assert client.query("SELECT verdict FROM rondo.decisions WHERE touch_id = {t:String} AND workspace = {w:String} ORDER BY attempt",
                        parameters={"t": "t1", "w": W}).result_rows == [("defer",), ("send",)]  # fmt: skip
    db = queries.Warehouse(insights.url)
    first, cursor = queries.timeline(db, W, ["mq"], "", 3)
    assert next((e["at"], e["kind"]) for e in first) == ("2026-01-02T08:00:01Z", "delivery.accepted")
    rest, end = queries.timeline(db, W, ["mq"], cursor, 3)
    assert [e["kind"] for e in rest] == ["decision.defer"]
    assert end == ""
    at = from_iso("2026-01-01T12:00:00Z")
    assert msgspec.json.decode(queries.decision(db, W, ["mq"], "spring", "t1", at))["reason"] == "quiet_hours"
    assert queries.decision(db, W, ["mq"], "spring", "", from_iso("2025-01-01T00:00:00Z")) == b""
    assert queries.decision(db, "other", ["mq"], "spring", "", at) == b""
    outcomes = queries.run_outcomes(db, W, "r1")
    assert outcomes["decisions"] == {"send": {"-": 1}, "skip": {"consent_missing": 1}}
    assert outcomes["deliveries"] == {"accepted": 1}
    with pytest.raises(OSError):
        urllib.request.urlopen(insights.url, data=b"SELECT nonsense", timeout=10)


def test_an_audience_is_as_fresh_as_the_log(insights, kafka):
    """CatchUp answers when what was written before the call shows; and the evaluator's numbers come out."""
    insights.start()
    insights.until("SELECT count() FROM rondo.people WHERE workspace = 'none'", "0")
    audiences = WarehouseAudiences(warehouse.Warehouse(insights.url), None)
    with rpc.blocking_channel(insights.grpc, "insights") as channel:
        stub = insights_pb2_grpc.InsightsServiceStub(channel)
        for round_ in range(1, 4):
            ids_of = [str(uuid.uuid4()) for _ in range(40)]
            contacts = [Contact(W, m, user_id=None if n % 4 == 0 else f"u{round_}.{n}") for n, m in enumerate(ids_of)]
            events = [MemberEvent(W, m, "track", m, "2026-01-01T00:00:00Z", name="Fresh") for m in ids_of]
            _produce(kafka, catalogue.CONTACTS, ((ids.member_key(W, c.member_id), c, 1) for c in contacts))
            _produce(kafka, catalogue.MEMBER_EVENTS, ((ids.member_key(W, e.member_id), e, 1) for e in events))
            asked = insights_pb2.CatchUpRequest(
                workspace=W, topics=[catalogue.CONTACTS, catalogue.MEMBER_EVENTS], wait_ms=60_000
            )
            assert stub.CatchUp(asked, timeout=90).behind == 0
            rule, _ = parse({"event": {"name": "Fresh"}})
            question = audiences.ask(rule, {}.get, W, from_iso("2026-06-01T00:00:00Z"), 5, audiences.standing(W), False)
            answer = audiences.answer(W, question)
            assert (answer["count"], answer["anonymous"], answer["exact"]) == (40 * round_, 10 * round_, True)
            assert answer["leaves"] == [{"pointer": "", "count": 40 * round_}]
            named = {c.member_id: c.user_id for c in contacts}
            assert all(named.get(s["member_id"], s["user_id"]) == s["user_id"] for s in answer["samples"])
    wide = {"trait": {"field": "note", "operator": "in", "value": [f"{n} it's a \\ long list" for n in range(900)]}}
    question = audiences.ask(parse(wide)[0], {}.get, W, 0, 5, audiences.standing(W), False)  # too long for a URL
    assert audiences.answer(W, question)["count"] == 0
