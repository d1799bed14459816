"""The official Segment Python SDK against the door, unchanged: only its host is set."""

import datetime
import json
import logging

import pytest
from segment.analytics.client import Client

from tests.support.ingestion_app import WRITE_KEY, memory_door, served

logging.getLogger("segment").setLevel(logging.CRITICAL)


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def gzip(request):
    return request.param


@pytest.fixture
def served_door(tmp_path):
    box = {}

    async def make():
        box["door"] = memory_door(tmp_path)
        box["door"].clock.at = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
        return box["door"].application.asgi

    with served(make) as base:
        yield box["door"], base


def test_every_call_of_the_sdk_arrives(served_door, gzip):
    door, base = served_door
    errors = []
    client = Client(WRITE_KEY, host=base, gzip=gzip, on_error=lambda e, batch: errors.append(e), max_retries=0)
    at = datetime.datetime(1997, 3, 25, 12, tzinfo=datetime.UTC)
    client.identify("u1", {"email": "ann@example.com", "born": datetime.date(1980, 1, 2)})
    client.track("u1", "Order Completed", {"total": 31.5}, timestamp=at, message_id="m-fixed")
    client.page("u1", "Docs", "Home", {"url": "https://example.com"})
    client.screen(anonymous_id="anon-1", name="Start")
    client.group("u1", "g1", {"plan": "gold"})
    client.alias("anon-1", "u1")
    client.track(42, "Numbered", integrations={"All": False, "Rondo": True})
    client.track("u1", "Unwanted", integrations={"All": False})
    client.track("u1", "Old", context={"historical": True})
    client.flush()
    client.join()
    assert errors == []
    assert door.rejected() == []
    events = door.events()
    got = [(e["type"], e.get("event"), e.get("user_id"), e.get("anonymous_id")) for e in events]
    assert got == [
        ("identify", None, "u1", None),
        ("track", "Order Completed", "u1", None),
        ("page", "Home", "u1", None),
        ("screen", "Start", None, "anon-1"),
        ("group", None, "u1", None),
        ("alias", None, "u1", None),
        ("track", "Numbered", "42", None),
        ("track", "Old", "u1", None),
    ]
    assert events[1]["message_id"] == "m-fixed"
    assert events[1]["original_timestamp"] == "1997-03-25T12:00:00.000+00:00"
    assert events[1]["timestamp"].startswith("1997-03-25T1")
    assert events[5]["previous_id"] == "anon-1"
    assert events[7]["historical"] is True
    assert all(e["context"]["library"]["name"] == "analytics-python" for e in events)
    assert len({e["message_id"] for e in events}) == len(events)


def test_the_sdk_hears_of_a_wrong_key(served_door):
    door, base = served_door
    errors = []
    client = Client("wk_wrong", host=base, on_error=lambda e, batch: errors.append(e), max_retries=0)
    client.track("u1", "x")
    client.flush()
    client.join()
    assert [e.status for e in errors] == [401]
    assert door.sink.messages == []


def test_the_sdk_waits_as_long_as_the_door_says(served_door):
    door, base = served_door
    errors = []
    door.sink.down = True
    client = Client(WRITE_KEY, host=base, on_error=lambda e, batch: errors.append(e), max_retries=10)
    kept = door.sink.write
    calls = []

    async def second_time_lucky(messages, at):
        calls.append(len(messages))
        door.sink.down = len(calls) < 2
        await kept(messages, at)

    door.sink.write = second_time_lucky
    client.track("u1", "x", message_id="once")
    client.flush()
    client.join()
    assert errors == []
    assert len(calls) == 2
    assert [json.loads(m.value)["message_id"] for m in door.sink.messages] == ["once"]
