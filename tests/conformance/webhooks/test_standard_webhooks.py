"""Our webhooks against the Standard Webhooks library as receivers use it, unmodified."""

import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from rondo_common.clock import Clock
from rondo_common.outcomes import Perform
from rondo_common.settings import Settings
from rondo_common.webhook_secrets import webhook_secret
from services.egress.model import Call
from services.egress.webhooks import WebhookEffector
from tests.support.spine_api import Api, until
from tests.support.spine_people import introduce


class Receiver:
    """Takes webhooks; `calls` are (headers, body)."""

    def __init__(self):
        self.calls = calls = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                calls.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?from=rondo"


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()


def verified(secret, call):
    headers, body = call
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.e2e
def test_a_receiver_verifies_before_during_and_after_a_rotation(stack, receiver):
    name = f"hooks{uuid.uuid4().hex[:8]}"
    with Api(stack) as first:
        keys = first.post("/v1/workspaces", {"id": name})["keys"]
    with Api(stack, keys["write"], keys["admin"]) as api:
        hook = api.post("/v1/webhooks", {"url": receiver.url, "types": ["*"]})

        def next_call():
            """The call that tells of a new member."""
            before = len(receiver.calls)
            api.send(introduce(f"u{uuid.uuid4().hex[:8]}", "2026-01-01T09:00:00Z", consents={}))
            until(lambda: len(receiver.calls) > before, "the webhook's call")
            return receiver.calls[-1]

        api.send(introduce("u1", "2026-01-01T09:00:00Z"))
        until(lambda: receiver.calls, "the first call")
        assert all(verified(hook["secret"], call) for call in receiver.calls)
        assert receiver.calls[0][0]["content-type"] == "application/json"

        turned = api.post(f"/v1/webhooks/{hook['id']}/rotate")
        assert turned["secret"] != hook["secret"]
        # the worker hears of the rotation a moment after the API's answer; until then the old secret signs alone
        until(lambda: verified(turned["secret"], next_call()), "the new secret")
        call = next_call()
        assert verified(turned["secret"], call)
        assert verified(hook["secret"], call), "the old secret still signs: a receiver has a day to change over"
        assert len(call[0]["webhook-signature"].split()) == 2


def call_of(receiver, **more):
    made = {"workspace": "w", "webhook": "h", "url": receiver.url, "secret_generation": 2, "event_id": "e1"}
    return Call(**{**made, "body": b'{"type":"message.sent"}', **more})


async def performed(call, clock):
    settings = Settings(public_url="http://127.0.0.1:1")
    effector = WebhookEffector(settings, clock)
    await effector.opened()
    try:
        answer = await effector.perform(Perform("q:h:e1", call), None)
    finally:
        await effector.closed()
    assert answer.ok, answer
    return [webhook_secret(settings.secret, "w", "h", generation) for generation in (1, 2)]


async def test_after_the_overlap_only_the_new_secret_signs(receiver):
    now = Clock().now()
    await performed(call_of(receiver, old_secret_until=now + 60_000), Clock())
    old, new = await performed(call_of(receiver, old_secret_until=now - 1), Clock())
    during, after = receiver.calls
    assert verified(old, during) and verified(new, during)
    assert verified(new, after) and not verified(old, after)


async def test_what_was_changed_on_the_way_is_refused(receiver):
    _, new = await performed(call_of(receiver), Clock())
    headers, body = receiver.calls[0]
    assert verified(new, (headers, body))
    assert not verified(new, (headers, body + b" "))
    assert not verified(new, ({**headers, "webhook-id": "e2"}, body))
    assert not verified(new, ({**headers, "webhook-timestamp": "1700000000"}, body))
