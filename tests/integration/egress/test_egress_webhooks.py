"""Public events and signed webhooks over the real loop: same bytes, same id, verified by the standard's own library."""

import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from rondo_common import ids
from rondo_common import kafka as clients
from rondo_common import topics as catalogue
from rondo_common.clock import Clock
from rondo_common.commands import CommandWriter
from rondo_common.records import Command, Contact, Definition, Delivery
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.webhook_secrets import webhook_secret
from services.egress.addresses import Refused, check, is_private
from services.egress.streams import EgressStage
from services.egress.webhooks import WebhookEffector
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration


class Receiver:
    """A CRM's endpoint: refuses the first call, takes the others."""

    def __init__(self):
        self.calls = []
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                calls.append((dict(self.headers), body))
                self.send_response(500 if len(calls) == 1 else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


def until(ask, seconds=60):
    deadline = time.monotonic() + PATIENT * seconds
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.1)
    raise AssertionError("did not happen")


async def test_a_webhook_gets_the_public_events_bytes_until_it_takes_them(kafka, redis_url, topics, tmp_path):
    topics.catalogue(*(t for lane in EgressStage.lanes for t in lane), catalogue.EGRESS_STATE, catalogue.CRM_EVENTS)
    w = f"w{uuid.uuid4().hex[:8]}"
    settings = Settings(
        kafka=kafka, redis=redis_url, data_dir=str(tmp_path), public_url="http://127.0.0.1:1", service="egress"
    )
    receiver = Receiver()
    body = msgspec.Raw(msgspec.json.encode({"url": receiver.url, "types": ["message.*"], "generation": 1}))
    hook = Definition(w, "webhook", "hook1", 1, body, "2026-01-01T00:00:00Z")
    writer = CommandWriter(settings, Clock())
    await writer.to_all(Command("definition.activated", w, "c1", "2026-01-01T00:00:00Z", definition=hook))
    runner = StageRunner(EgressStage(), settings, Clock(), WebhookEffector(settings, Clock())).start()
    try:
        until(lambda: runner.ready()[0])
        until(lambda: all(lag == 0 for p in runner.progress().values() for lag in p["lag"].values()))
        producer = clients.producer(kafka, "test")
        key = ids.member_key(w, "m1")
        rows = [(catalogue.CONTACTS, Contact(w, "m1", user_id="u1"))]
        rows += [
            (
                catalogue.DELIVERIES,
                Delivery(w, f"d{n}", f"t{n}", "m1", "email", "smtp", "accepted", "2026-01-01T00:00:01Z"),
            )
            for n in range(3)
        ]
        for topic, value in rows:
            producer.produce(topic, key=key, value=msgspec.json.encode(value), timestamp=Clock().now())
            producer.flush(10)
            time.sleep(0.3)
        until(lambda: len(receiver.calls) >= 4)  # three events, the first told twice
        public = _crm(kafka, w)
        assert [msgspec.json.decode(v)["type"] for _, v in public] == ["message.sent"] * 3
        assert {(h["Webhook-Id"] if "Webhook-Id" in h else h["webhook-id"], b) for h, b in receiver.calls} == set(
            public
        )
        verifier = Verifier(webhook_secret(settings.secret, w, "hook1", 1))
        for headers, raw in receiver.calls:
            verifier.verify(raw, {k.lower(): v for k, v in headers.items()})
    finally:
        runner.stop()
        receiver.server.shutdown()


def _crm(bootstrap, workspace):
    consumer = clients.reader(bootstrap, f"t-{uuid.uuid4().hex}")
    ends = clients.assign_from_start(consumer, catalogue.CRM_EVENTS)
    done, out = set(), []
    while len(done) < len(ends):
        m = consumer.poll(5.0)
        if m is not None and m.error():
            done.add(m.partition())
        elif m is not None and m.key().decode().startswith(workspace):
            out.append((dict(m.headers())["ce_id"].decode(), m.value()))
    consumer.close()
    return out


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.1.1",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fd00::1",
        "0.0.0.0",
    ],
)
def test_private_addresses_are_known(address):
    assert is_private(address)
    assert not is_private("93.184.216.34")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "ftp://a/x",
        "https:///x",
        "http://example.com/",
    ],
)
def test_a_public_installation_refuses_private_and_plain_addresses(url):
    with pytest.raises(Refused):
        check(url, allow_private=False)
