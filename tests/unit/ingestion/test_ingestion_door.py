"""The Segment endpoints over a sink in memory."""

import gzip
import json

import msgspec
import pytest

from rondo_common import ids, keys, topics
from rondo_common.clock import iso
from rondo_common.records import Definition, Event
from tests.support.ingestion_app import WRITE_KEY, memory_door


@pytest.fixture
async def door(tmp_path):
    return memory_door(tmp_path)


def track(**more):
    return {"type": "track", "messageId": "m1", "userId": "u1", "event": "Seen", **more}


async def test_a_track_call_becomes_one_event(door):
    call = track(properties={"total": 31.5}, timestamp="2026-11-18T11:00:00Z")
    async with door.client as http:
        answer = await http.post("/v1/track", json=call, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert answer.status_code == 200
    assert answer.json() == {"success": True}
    assert answer.headers["x-request-id"] == "a" * 32
    (message,) = door.sink.messages
    event = msgspec.json.decode(message.value, type=Event)
    sender = ids.identifier_id(ids.workspace_secret(door.settings.secret, "demo"), "user_id", "u1")
    assert message.topic == topics.EVENTS
    assert message.key == f"demo:{sender}".encode()
    assert (event.type, event.event, event.sender, event.message_id) == ("track", "Seen", sender, "m1")
    assert bytes(event.properties) == b'{"total":31.5}'
    assert event.timestamp == event.original_timestamp == "2026-11-18T11:00:00Z"
    assert event.received_at == iso(door.clock.at)
    assert door.sink.times == [door.clock.at]
    headers = dict(message.headers)
    assert headers["ce_id"] == b"m1"
    assert headers["ce_type"] == b"rondo.event.track"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["traceparent"].startswith(b"00-" + b"a" * 32)


@pytest.mark.parametrize(
    "path,call,expected",
    [
        ("identify", {"userId": "u", "traits": {"email": "a@b.c"}}, {"traits": {"email": "a@b.c"}}),
        ("page", {"anonymousId": "a", "name": "Home", "properties": {"url": "/"}}, {"event": "Home"}),
        ("page", {"anonymousId": "a", "category": "Docs"}, {"properties": {"category": "Docs"}}),
        ("screen", {"userId": "u", "name": "Start"}, {"event": "Start"}),
        ("group", {"userId": "u", "groupId": "g", "traits": {"plan": "x"}}, {"group_id": "g", "traits": {"plan": "x"}}),
        ("alias", {"userId": "u", "previousId": "anon"}, {"previous_id": "anon", "user_id": "u"}),
        ("t", {"userId": "u", "event": "Short"}, {"type": "track", "event": "Short"}),
        ("track", {"userId": 42, "event": "x"}, {"user_id": "42"}),
        ("track", {"userId": "", "anonymousId": "a", "event": "x"}, {"anonymous_id": "a"}),
    ],
)
async def test_every_endpoint(door, path, call, expected):
    async with door.client as http:
        answer = await http.post(f"/v1/{path}", json=call)
    assert answer.status_code == 200
    assert door.rejected() == []
    (event,) = door.events()
    assert {k: event.get(k) for k in expected} == expected
    assert event["message_id"]


async def test_a_batch_keeps_the_good_and_files_the_bad(door):
    batch = [track(messageId="a"), {"type": "track", "userId": "u1", "messageId": "bad"}, "x", track(messageId="b")]
    async with door.client as http:
        answer = await http.post("/v1/batch", json={"batch": batch})
    assert answer.status_code == 200
    assert [e["message_id"] for e in door.events()] == ["a", "b"]
    refused = [(r["code"], r["pointer"], r.get("message_id")) for r in door.rejected()]
    assert refused == [("required", "/batch/1/event", "bad"), ("not_an_object", "/batch/2", None)]
    assert json.loads(door.rejected()[0]["body"]) == batch[1]


async def test_strict_is_all_or_nothing(door):
    batch = [track(), track(event=None), track(userId=[1]), track()]
    async with door.client as http:
        answer = await http.post("/v1/batch", json={"batch": batch}, headers={"X-Strict-Mode": "1"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [
        ("/batch/1/event", "required"),
        ("/batch/2/userId", "wrong_type"),
    ]
    assert problem["trace_id"] == answer.headers["x-request-id"]
    assert door.sink.messages == []


async def test_context_and_integrations_of_the_batch_lie_under_each_event(door):
    body = {
        "batch": [
            track(context={"app": {"version": "2"}, "ip": "2.2.2.2"}),
            track(messageId="m2", integrations={"Rondo": True}),
            track(messageId="m3"),
        ],
        "context": {"app": {"name": "shop", "version": "1"}, "ip": "1.1.1.1"},
        "integrations": {"All": False},
    }
    async with door.client as http:
        await http.post("/v1/batch", json=body)
        assert [e["message_id"] for e in door.events()] == ["m2"]
        door.sink.messages.clear()
        del body["integrations"]
        await http.post("/v1/batch", json=body)
    first, second, _ = door.events()
    assert first["context"] == {"app": {"name": "shop", "version": "2"}, "ip": "2.2.2.2"}
    assert second["context"] == body["context"]


async def test_historical(door):
    async with door.client as http:
        await http.post("/v1/import", json={"batch": [track()]})
        await http.post("/v1/track", json=track(context={"historical": True}))
        await http.post("/v1/track", json=track(context={"historical": False}))
        await http.post("/v1/track", json=track(context={"historical": "yes"}))
    assert [e.get("historical", False) for e in door.events()] == [True, True, False]
    assert [r["pointer"] for r in door.rejected()] == ["/context/historical"]


async def test_the_key_may_stand_in_the_body_and_the_password_may_be_anything(door):
    async with door.client as http:
        http.auth = None
        body = json.dumps(track(writeKey=WRITE_KEY))
        beacon = await http.post("/v1/t", content=body, headers={"content-type": "text/plain; charset=utf-8"})
        assert beacon.status_code == 200
        assert (await http.post("/v1/track", json=track(), auth=(WRITE_KEY, '""'))).status_code == 200
        bearer = {"Authorization": "Bearer token"}
        in_batch = {"writeKey": WRITE_KEY, "batch": [track()]}
        assert (await http.post("/v1/batch", json=in_batch, headers=bearer)).status_code == 200
        wrong = await http.post("/v1/batch", json=in_batch, auth=("wk_other", ""))
    assert wrong.status_code == 401
    assert wrong.headers["www-authenticate"].startswith("Basic")
    assert len(door.events()) == 3


async def test_gzip(door):
    plain = json.dumps(track()).encode()
    packed = gzip.compress(plain)
    bomb = gzip.compress(b"0" * 10_000_000)
    cases = [(packed, 200), (packed + gzip.compress(b" "), 200), (packed[:-9], 400), (packed[:20], 400)]
    cases += [(packed + b"rest", 400), (b"no gzip", 400), (plain, 400), (bomb, 413)]
    async with door.client as http:
        for body, status in cases:
            answer = await http.post("/v1/track", content=body, headers={"content-encoding": "gzip"})
            assert answer.status_code == status, body[:30]
        answer = await http.post("/v1/track", content=plain, headers={"content-encoding": "br"})
        assert answer.status_code == 415
    assert len(door.events()) == 2


async def test_kafka_behind_is_503_with_retry_after(door):
    door.sink.down = True
    async with door.client as http:
        answer = await http.post("/v1/track", json=track())
        ready = await http.get("/readyz")
        healthy = await http.get("/healthz")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert ready.status_code == 503
    assert healthy.status_code == 200


async def test_browsers_may_ask_first(door):
    async with door.client as http:
        answer = await http.options("/v1/track")
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert (await http.post("/v1/track", json=track())).headers["access-control-allow-origin"] == "*"


async def test_a_shared_context_cannot_blow_a_batch_up(door):
    body = {"context": {"x": "y" * 20_000}, "batch": [track(messageId=str(i)) for i in range(1000)]}
    async with door.client as http:
        assert (await http.post("/v1/batch", json=body)).status_code == 413
        body = {"context": {"x": "y" * 40_000}, "batch": [track()]}
        assert (await http.post("/v1/batch", json=body)).status_code == 200
    assert door.events() == []
    assert [r["code"] for r in door.rejected()] == ["event_too_large"]


class Definitions:
    """A DefinitionStore of keys only."""

    def __init__(self):
        self.held, self.listeners, self.caught_up = {}, [], True

    def all(self, kind):
        return [d for d in self.held.values() if d.kind == kind and not d.deleted]

    def on_change(self, listener):
        self.listeners.append(listener)

    def ready(self):
        return self.caught_up, ""

    def put(self, workspace, id, sha256, kind="write", deleted=False):
        body = msgspec.Raw(msgspec.json.encode({"name": id, "scopes": [], "kind": kind, "sha256": sha256}))
        d = Definition(workspace, "key", id, 1, body, "2026-01-01T00:00:00Z", deleted=deleted)
        self.held[workspace, id] = d
        for listener in self.listeners:
            listener(d)


async def test_issued_keys_come_and_go_and_belong_to_their_workspace(tmp_path):
    definitions = Definitions()
    door = memory_door(tmp_path, definitions)
    issued = keys.issue("write")
    async with door.client as http:
        http.auth = (issued.key, "")
        assert (await http.post("/v1/track", json=track())).status_code == 401
        definitions.put("other", "k1", issued.sha256)
        assert (await http.post("/v1/track", json=track())).status_code == 200
        definitions.put("other", "k1", issued.sha256, deleted=True)
        assert (await http.post("/v1/track", json=track())).status_code == 401
        definitions.caught_up = False
        assert (await http.post("/v1/track", json=track())).status_code == 503
        assert (await http.post("/v1/track", json=track(), auth=(WRITE_KEY, ""))).status_code == 200
        admin = keys.issue("admin")
        definitions.put("demo", "k2", admin.sha256, kind="admin")
        definitions.caught_up = True
        assert (await http.post("/v1/track", json=track(), auth=(admin.key, ""))).status_code == 401
        assert (await http.post("/v1/track", json=track(), auth=("rk_test_key", ""))).status_code == 401
        inner = keys.make_internal_key(door.settings.secret, "other_one-2")
        assert (await http.post("/v1/track", json=track(), auth=(inner, ""))).status_code == 200
        assert (await http.post("/v1/track", json=track(), auth=(inner[:-1] + "x", ""))).status_code == 401
        foreign = inner.replace("other_one-2", "demo")
        assert (await http.post("/v1/track", json=track(), auth=(foreign, ""))).status_code == 401
    assert [e["workspace"] for e in door.events()] == ["other", "demo", "other_one-2"]
    senders = {e["sender"] for e in door.events()}
    assert len(senders) == 3  # the same userId is another id in each workspace
