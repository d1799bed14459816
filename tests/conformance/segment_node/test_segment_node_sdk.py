"""The official Segment SDK for Node, unchanged: only its host is set."""

import datetime
import json
import subprocess
import uuid
from pathlib import Path

import pytest

from rondo_common import topics
from tests.support import needs, node_packages
from tests.support.ingestion_app import WRITE_KEY, memory_door, served
from tests.support.log_reader import records_of

pytestmark = pytest.mark.needs("node", "npm")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def sdk(request):
    """Plays a script; what the SDK told about it."""
    try:
        folder = node_packages.installed(HERE)
    except node_packages.Unavailable as e:
        needs.not_run(request.node.nodeid, str(e))

    def play(host, calls, key=WRITE_KEY, **options):
        script = {"host": host, "writeKey": key, "options": options, "calls": calls}
        done = subprocess.run(
            ["node", "client.cjs"], cwd=folder, input=json.dumps(script), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return play


@pytest.fixture
def served_door(tmp_path):
    box = {}

    async def make():
        box["door"] = memory_door(tmp_path)
        box["door"].clock.at = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
        return box["door"].application.asgi

    with served(make) as base:
        yield box["door"], base


def tracks(count):
    return [["track", {"userId": f"u{n % 3}", "event": "Visited", "properties": {"n": n}}] for n in range(count)]


def every_call(user):
    return [
        ["identify", {"userId": user, "traits": {"email": "ann@example.com"}}],
        ["track", {"userId": user, "event": "Order Completed", "properties": {"total": 31.5}, "messageId": f"{user}-fixed",
                   "timestamp": "1997-03-25T12:00:00Z"}],
        ["page", {"userId": user, "category": "Docs", "name": "Home", "properties": {"url": "https://example.com"}}],
        ["screen", {"anonymousId": f"{user}-anon", "name": "Start"}],
        ["group", {"userId": user, "groupId": "g1", "traits": {"plan": "gold"}}],
        ["alias", {"previousId": f"{user}-anon", "userId": user}],
        ["track", {"userId": user, "event": "Unwanted", "integrations": {"All": False}}],
        ["track", {"userId": user, "event": "Old", "context": {"historical": True}}],
    ]  # fmt: skip


@pytest.mark.e2e
def test_every_call_of_the_sdk_arrives_at_the_topic(sdk, stack):
    user = f"node-{uuid.uuid4().hex[:8]}"
    told = sdk(stack.http("ingestion"), every_call(user), key=stack.write_key)
    assert told["errors"] == []
    assert all(r["status"] == 200 for r in told["requests"])
    events = [
        e
        for e in map(json.loads, records_of(stack.kafka, topics.EVENTS))
        if user in (e.get("user_id"), (e.get("anonymous_id") or "").removesuffix("-anon"))
    ]
    assert sorted((e["type"], e.get("event") or "") for e in events) == sorted(
        [("identify", ""), ("track", "Order Completed"), ("page", "Home"), ("screen", "Start"), ("group", ""),
         ("alias", ""), ("track", "Old")]
    )  # fmt: skip
    by_event = {e.get("event") or e["type"]: e for e in events}
    assert by_event["Order Completed"]["message_id"] == f"{user}-fixed"
    assert by_event["Order Completed"]["timestamp"].startswith("1997-03-25T1")
    assert by_event["alias"]["previous_id"] == f"{user}-anon"
    assert by_event["Old"]["historical"] is True
    assert all(e["context"]["library"]["name"] == "@segment/analytics-node" for e in events)
    assert len({e["message_id"] for e in events}) == len(events)


def test_it_flushes_in_batches_and_at_the_end(sdk, served_door):
    door, base = served_door
    told = sdk(base, tracks(12), flushAt=5, flushInterval=20_000)
    assert told["errors"] == []
    assert [r["events"] for r in told["requests"]] == [5, 5, 2]
    assert sorted(e["properties"]["n"] for e in door.events()) == list(range(12))


def test_it_tries_again_when_the_door_is_overloaded_and_nothing_comes_twice(sdk, served_door):
    door, base = served_door
    kept, calls = door.sink.write, []

    async def third_time_lucky(messages, at):
        calls.append([json.loads(m.value)["message_id"] for m in messages])
        door.sink.down = len(calls) < 3
        await kept(messages, at)

    door.sink.write = third_time_lucky
    told = sdk(base, tracks(4), flushAt=10, maxRetries=5)
    assert told["errors"] == []
    assert [(r["status"], r["retry"]) for r in told["requests"]] == [(503, None), (503, "1"), (200, "2")]
    assert calls[0] == calls[1] == calls[2], "a retry has the same message ids, so it can be recognised"
    assert len(door.events()) == 4


def test_it_hears_of_a_wrong_key_and_gives_up(sdk, served_door):
    door, base = served_door
    told = sdk(base, tracks(1), key="wk_wrong", maxRetries=2)
    assert told["errors"] and "401" in told["errors"][0]["reason"]
    assert [r["status"] for r in told["requests"]] == [401]
    assert door.sink.messages == []
