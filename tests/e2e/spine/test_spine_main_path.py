"""The main job end to end: an event becomes a message, an answer becomes a conversation, CRMs hear of all."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.spine_api import Api, until
from tests.support.spine_compare import committed
from tests.support.spine_people import introduce, track

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CART = {
    "type": "triggered",
    "class": "marketing",
    "topic": "offers",
    "template": "spine",
    "channels": ["email"],
    "trigger": {"event": "Cart Left", "where": [{"property": "total", "operator": "gte", "value": 20}]},
    "reentry": "always",
}
TEXTING = {**CART, "channels": ["sms"], "trigger": {"event": "Ticket Bought"}}


def at(minutes: float = 0.0) -> str:
    """So many minutes ago."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="module")
def runs(api: Api) -> dict[str, str]:
    """The triggered campaigns, open; their runs."""
    found = {}
    for name, body in (("path-cart", CART), ("path-text", TEXTING)):
        api.put(f"/v1/campaigns/{name}", body)
        found[name] = api.post(f"/v1/campaigns/{name}/start")["run_id"]
    return found


def captured(api: Api, count: int = 1, **filters: Any) -> list[dict[str, Any]]:
    """Wait for exactly so many captured messages."""
    found: list[dict[str, Any]] = until(
        lambda: f if len(f := api.inbox(**filters)) >= count else None, f"{count} messages with {filters}"
    )
    assert len(found) == count, found
    return found


def decisions(api: Api, member: str, campaign: str) -> list[dict[str, Any]]:
    """What was decided, newest first."""
    api.drain()
    return api.all(f"/v1/members/{member}/decisions", campaign=campaign)


def test_an_event_becomes_a_message(api: Api, runs: dict[str, str]) -> None:
    before = api.run(runs["path-cart"])["counts"]["sent"]
    api.send(introduce("ann", at(5), locale="en-GB"))
    api.send(
        [track("ann", "Cart Left", at(), "ann-small", total=5), track("ann", "Cart Left", at(), "ann-1", total=31)]
    )
    api.send([track("ann", "Cart Left", at(), "ann-1", total=31)])  # the SDK tried again
    (message,) = captured(api, to="ann@example.com")
    assert message["subject"] == "Hi Ann"
    assert "Dear Ann, 31" in message["html"] and "Dear Ann, 31" in message["text"]
    assert (message["channel"], message["provider"], message["campaign"]) == ("email", "smtp", "path-cart")
    assert message["run_id"] == runs["path-cart"]
    assert message["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    member = api.get("/v1/members/ann")
    assert message["member_id"] == member["member_id"]
    assert (member["event_counts"]["Cart Left"], member["traits"]["firstName"]) == (2, "Ann")
    api.drain()
    run = api.run(runs["path-cart"])
    assert run["counts"]["sent"] == before + 1
    assert len(api.inbox(to="ann@example.com")) == 1
    kinds = {e["kind"] for e in api.get("/v1/members/ann/timeline")["data"]}
    assert {"member.created", "track", "decision.send", "delivery.accepted"} <= kinds


def test_a_click_and_an_unsubscribe_come_back(api: Api, runs: dict[str, str]) -> None:
    api.send([*introduce("uma", at(5)), track("uma", "Cart Left", at(), "uma-1", total=30)])
    (message,) = captured(api, to="uma@example.com")
    api.post(f"/v1/inbox/messages/{message['id']}/open")
    api.post(f"/v1/inbox/messages/{message['id']}/click", {"link": 0})
    api.post(f"/v1/inbox/messages/{message['id']}/unsubscribe")
    denied = {"channel": "email", "topic": "offers", "state": "denied"}
    until(
        lambda: any(denied.items() <= c.items() for c in api.get("/v1/members/uma/consent")["consents"]),
        "the consent is gone",
    )
    api.drain()
    kinds = [e["kind"] for e in api.get("/v1/members/uma/timeline")["data"]]
    assert {"message.opened", "message.clicked", "message.unsubscribed"} <= set(kinds)
    api.send([track("uma", "Cart Left", at(), "uma-2", total=30)])
    newest = decisions(api, "uma", "path-cart")[0]
    assert (newest["verdict"], newest["reason"]) == ("skip", "consent_denied")
    assert len(api.inbox(to="uma@example.com")) == 1


def test_a_conversation_holds_marketing_until_it_is_closed(api: Api, runs: dict[str, str]) -> None:
    phone = "+33611110001"
    api.send([*introduce("bob", at(5), phone=phone), track("bob", "Ticket Bought", at(), "bob-1", total=1)])
    (first,) = captured(api, to=phone)
    api.post(f"/v1/inbox/messages/{first['id']}/reply", {"text": "when does it open?"})
    (talk,) = until(lambda: api.get("/v1/conversations", member="bob")["data"], "a conversation")
    assert (talk["status"], talk["channel"], talk["first_response_s"]) == ("open", "sms", None)
    line = talk["messages"][0]
    assert (line["direction"], line["text"]) == ("in", "when does it open?")
    assert "touch_id" in line and "at" in line  # a text message names none of ours
    assert talk["id"] in [c["id"] for c in api.all("/v1/conversations", status="open")]
    api.drain()

    api.send([track("bob", "Ticket Bought", at(), "bob-2", total=2)])
    held = decisions(api, "bob", "path-text")[0]
    assert (held["verdict"], held["reason"]) == ("defer", "open_dialogue")
    assert len(api.inbox(to=phone)) == 1
    explained = api.get("/v1/explain", member="bob", campaign="path-text")
    assert explained["status"] == "recorded" and explained["decision"]["reason"] == "open_dialogue"
    gates = {g["gate"]: g["verdict"] for g in explained["decision"]["gates"]}
    assert gates["consent"] == "pass" and gates["open_dialogue"] == "defer"

    sent = api.post(f"/v1/conversations/{talk['id']}/reply", {"text": "At nine."})
    answer, _ = captured(api, 2, to=phone)
    assert (answer["text"], answer["touch_id"]) == ("At nine.", sent["touch_id"])
    talk = until(
        lambda: c if len((c := api.get(f"/v1/conversations/{talk['id']}"))["messages"]) == 2 else None, "the answer"
    )
    assert [m["direction"] for m in talk["messages"]] == ["in", "out"] and talk["first_response_s"] is not None
    assert len(api.inbox(to=phone)) == 2

    assert api.post(f"/v1/conversations/{talk['id']}/close")["status"] == "closed"
    newest, *_ = captured(api, 3, to=phone)
    assert newest["text"] == "Hi Bob 2"
    api.drain()
    again = api.post(f"/v1/inbox/messages/{newest['id']}/reply", {"text": "and on Sunday?"})
    assert again["status"] in (200, 202)
    talks = until(lambda: t if len(t := api.get("/v1/conversations", member="bob")["data"]) == 2 else None, "another")
    assert talks[0]["id"] != talk["id"]
    api.post(f"/v1/conversations/{talks[0]['id']}/close")


def test_stop_denies_the_channel_and_is_confirmed_once(api: Api, runs: dict[str, str]) -> None:
    phone = "+33611110002"
    api.send([*introduce("sue", at(5), phone=phone), track("sue", "Ticket Bought", at(), "sue-1", total=1)])
    (message,) = captured(api, to=phone)
    api.post(f"/v1/inbox/messages/{message['id']}/reply", {"text": " Stop "})
    confirmation, _ = captured(api, 2, to=phone)
    assert "unsubscribed" in confirmation["text"]
    api.drain()
    consents = {(c["channel"], c["topic"]): c["state"] for c in api.get("/v1/members/sue/consent")["consents"]}
    assert consents["sms", "*"] == "denied"
    assert api.get("/v1/conversations", member="sue")["data"] == []
    api.send([track("sue", "Ticket Bought", at(), "sue-2", total=2)])
    newest = decisions(api, "sue", "path-text")[0]
    assert (newest["verdict"], newest["reason"]) == ("skip", "consent_denied")
    # what is not marketing needs no consent
    api.post("/v1/send/sms", {"content": {"sms": {"text": "your code is 42"}}, "to": {"id": "sue"}})
    captured(api, 3, to=phone)


class Receiver(BaseHTTPRequestHandler):
    """A CRM's endpoint: keeps what it gets; the first call of each id is refused."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        kept: list[tuple[dict[str, str], bytes]] = self.server.kept  # type: ignore[attr-defined]
        headers = {k.lower(): v for k, v in self.headers.items()}
        again = any(h["webhook-id"] == headers["webhook-id"] for h, _ in kept)
        kept.append((headers, body))
        self.send_response(204 if again else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.kept = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_crms_hear_of_it_on_kafka_and_by_a_signed_webhook(
    api: Api, runs: dict[str, str], receiver: ThreadingHTTPServer
) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/crm"
    hook = api.post("/v1/webhooks", {"url": url, "types": ["message.sent"]})
    assert hook["secret"].startswith("whsec_")
    api.drain()
    try:
        api.send([*introduce("eve", at(5)), track("eve", "Cart Left", at(), "eve-1", total=50)])
        (message,) = captured(api, to="eve@example.com")
        kept: list[tuple[dict[str, str], bytes]] = receiver.kept  # type: ignore[attr-defined]
        mine = until(lambda: k if len(k := [k for k in kept if message["touch_id"].encode() in k[1]]) >= 2 else None,
                     "the webhook, refused once and repeated", 60)  # fmt: skip
        (headers, body), (repeated, same) = mine[:2]
        assert body == same and headers["webhook-id"] == repeated["webhook-id"]
        for one in (headers, repeated):
            Webhook(hook["secret"]).verify(body, one)
        with pytest.raises(Exception, match="signature"):
            Webhook(hook["secret"]).verify(body.replace(b"sent", b"send"), headers)
        event = json.loads(body)
        assert event["type"] == "message.sent"
        wanted = {"user_id": "eve", "campaign": "path-cart", "channel": "email", "run_id": runs["path-cart"]}
        assert wanted.items() <= event["data"].items()
        records = [r for r in committed(api.stack.kafka, "rondo.crm.events.v1") if r.value == body]
        assert len(records) == 1  # the same bytes, once
        found = {k: v.decode() for k, v in records[0].headers}
        assert found["ce_id"] == headers["webhook-id"]
        assert (found["ce_type"], found["ce_subject"]) == ("message.sent", message["member_id"])
        assert {"ce_specversion", "ce_source", "ce_time", "traceparent"} <= found.keys()
    finally:
        api.ask("DELETE", f"/v1/webhooks/{hook['id']}")
