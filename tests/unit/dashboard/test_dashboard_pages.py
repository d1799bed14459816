"""The pages over HTTP: what they show, what they say is missing, whom they refuse."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from rondo_common.clock import Clock, create_clock_file
from tests.support.dashboard_world import KEY, World, now_iso, run
from tests.support.slowness import ANSWER_S, PATIENT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture
def http(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.dashboard.url, timeout=10) as client:
        client.get("/")  # takes the cookie
        yield client


def own(world: World) -> dict[str, str]:
    return {"origin": world.dashboard.url}


def until(read: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + PATIENT * seconds
    while not read():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_page_is_whole_without_its_script(world: World, http: httpx.Client):
    page = http.get("/")
    assert page.status_code == 200
    for text in ("Live operations", "delivery-messaging", "No campaign has run yet", "make demo", "Nobody waits"):
        assert text in page.text
    assert KEY not in page.text


def test_nothing_inline_and_nothing_from_elsewhere(world: World, http: httpx.Client):
    world.message(html="<b>x</b>", subject="S", text="t")
    for path in ("/", "/inbox", "/inbox/i1", "/conversations", "/nothing"):
        answer = http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy
        assert " style=" not in answer.text and " onclick" not in answer.text and "<style" not in answer.text
        assert 'src="http' not in answer.text and 'href="http' not in answer.text


def test_what_people_write_stays_text(world: World, http: httpx.Client):
    evil = "<script>alert(1)</script>"
    m = world.message(subject=evil, text=evil, to=f"{evil}@example.com", headers={"X": evil})
    world.runs = [run("r1", evil, "running", 5, sent=1)]
    world.conversations = [
        {"id": "c1", "status": "open", "channel": "sms", "member_id": "m1", "opened_at": now_iso(),
         "messages": [{"direction": "in", "text": evil, "at": now_iso()}]}
    ]  # fmt: skip
    try:
        until(lambda: "alert(1)" in http.get("/").text and "alert(1)" in http.get("/conversations").text)
        for path in ("/", "/inbox", f"/inbox/{m.id}", "/conversations"):
            assert evil not in http.get(path).text
    finally:
        world.runs, world.conversations = [], []


def test_a_mail_gets_a_document_that_can_do_nothing(world: World, http: httpx.Client):
    m = world.message(html="<script>alert(1)</script><p style='color:red'>Hi</p>")
    answer = http.get(f"/inbox/{m.id}/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'") and "script-src" not in policy
    assert 'sandbox=""' in http.get(f"/inbox/{m.id}").text
    assert http.get(f"/inbox/{m.id}/raw").headers["content-type"].startswith("text/plain")


def test_inbox_by_channel_and_text(world: World, http: httpx.Client):
    world.message(channel="sms", provider="twilio", to="+33600000001", text="Ünique words", sms_segments=2)
    world.message(to="zoe@example.com", subject="Other", args={"c": "summer"})
    assert "+33600000001" in http.get("/inbox?channel=sms").text
    assert "zoe@example.com" not in http.get("/inbox?channel=sms").text
    assert "+33600000001" in http.get("/inbox?q=ünique WORDS").text
    assert "zoe@example.com" in http.get("/inbox?q=SUMMER").text
    assert "No message matches" in http.get("/inbox?q=nowhere to be found").text


def test_older_messages_by_the_cursor(world: World, http: httpx.Client):
    for i in range(60):
        world.message(to=f"p{i}@paging.example", text="paging")
    first = http.get("/inbox?q=paging")
    assert first.text.count("@paging.example") == 50
    following = first.text.partition('href="/inbox?q=paging&amp;cursor=')[2].partition('"')[0]
    assert http.get(f"/inbox?q=paging&cursor={following}").text.count("@paging.example") == 10


@pytest.mark.parametrize("act", ["open", "click", "scan", "bounce", "complain", "unsubscribe"])
def test_acting_as_the_member(world: World, http: httpx.Client, act: str):
    m = world.message(html="<p>x</p>", links=["http://l/1", "http://l/2"], headers={"List-Unsubscribe": "<http://l/u>"})
    answer = http.post(f"/inbox/{m.id}/{act}", data={"link": "1"}, headers=own(world))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/inbox/{m.id}?done={act}")
    assert world.acts.done[-1] == (m.id, act, "", 1 if act == "click" else 0)


def test_replying_as_the_member(world: World, http: httpx.Client):
    m = world.message()
    http.post(f"/inbox/{m.id}/reply", data={"text": "STOP"}, headers=own(world))
    assert world.acts.done[-1] == (m.id, "reply", "STOP", 0)
    assert http.post(f"/inbox/{m.id}/explode", headers=own(world)).status_code == 404


def _with(host: str, world: World) -> dict[str, str]:
    return {"host": host, "origin": f"http://{host}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 421),
        ({"host": "rondo.test:7009", "origin": "http://rondo.test:7009"}, 303),
        ({"host": "localhost:7009", "origin": "http://localhost:7009"}, 303),
    ],
)
def test_forms_only_from_our_own_pages(world: World, http: httpx.Client, headers: dict[str, str], status: int):
    m = world.message()
    before = len(world.acts.done)
    answer = http.post(f"/inbox/{m.id}/open", headers={**headers, "cookie": "rondo_here=1"})
    assert answer.status_code == status
    assert len(world.acts.done) - before == (status == 303)


def test_forms_only_with_the_same_site_cookie(world: World):
    m = world.message()
    answer = httpx.post(f"{world.dashboard.url}/inbox/{m.id}/open", headers=own(world), timeout=ANSWER_S)
    assert answer.status_code == 403
    set_cookie = httpx.get(world.dashboard.url, timeout=ANSWER_S).headers["set-cookie"]
    assert "SameSite=Strict" in set_cookie and "HttpOnly" in set_cookie


def test_another_name_for_this_address_reads_nothing(world: World):
    answer = httpx.get(world.dashboard.url + "/inbox", headers={"host": "rebound.evil.example"}, timeout=ANSWER_S)
    assert answer.status_code == 421 and "zoe@" not in answer.text


def test_answering_and_closing(world: World, http: httpx.Client):
    world.members["ann"] = {"traits": {"firstName": "Ann"}, "user_id": "u1"}
    line = {"direction": "in", "text": "when?", "at": now_iso(70)}
    world.conversations = [
        {
            "id": "c1",
            "status": "open",
            "channel": "sms",
            "member_id": "ann",
            "opened_at": now_iso(70),
            "messages": [line],
        }
    ]
    assert "waits 70 s" in http.get("/conversations").text and "Ann" in http.get("/conversations").text
    world.posts.clear()
    for text in ("At nine.", "At nine.", "At ten."):
        http.post("/conversations/c1/reply", data={"text": text, "seen": "1"}, headers=own(world))
    assert [p[1] for p in world.posts] == [{"text": "At nine."}, {"text": "At nine."}, {"text": "At ten."}]
    keys = [p[2] for p in world.posts]
    assert keys[0] == keys[1] != keys[2]  # a double click is one answer, another text is another
    assert "At nine." in http.get("/conversations?done=reply").text
    http.post("/conversations/c1/close", headers=own(world))
    assert "No open conversation" in http.get("/conversations?done=close").text


def test_a_refusal_is_told_and_the_page_stays(world: World, http: httpx.Client):
    world.refuse = {"/v1/conversations/": "profiles is down"}
    try:
        answer = http.post("/conversations/c9/reply", data={"text": "x"}, headers=own(world))
        assert answer.status_code == 503 and "profiles is down" in answer.text
    finally:
        world.refuse = {}


def test_missing_parts_are_named_and_the_rest_is_shown(world: World, http: httpx.Client):
    world.runs = [run("r1", "spring", "running", 5, sent=10)]
    until(lambda: "spring" in http.get("/").text)
    world.refuse = {"/v1/conversations": "conversations are being read"}
    world.processes["rhythm"].ready, world.processes["rhythm"].detail = False, "restoring 2 of 8 partitions (10%)"
    world.write_state(silent=("links",))
    world.broker.down_since = time.monotonic() - 60
    try:
        missing = ("conversations are being read", "restoring 2 of 8", "<strong>links</strong>: does not answer")
        missing += ("<strong>Kafka</strong> can’t be read",)
        until(lambda: all(what in page for page in (http.get("/").text,) for what in missing))
        page = http.get("/").text
        assert "spring" in page and "Campaign runs</strong> can’t" not in page
    finally:
        world.refuse, world.runs, world.broker.down_since = {}, [], None
        world.processes["rhythm"].ready = True
        world.write_state()


def test_without_the_gateway_the_services_are_still_there(world: World, http: httpx.Client):
    world.gateway.stop()
    try:
        until(lambda: "<strong>Campaign runs</strong> can’t be read" in http.get("/").text)
        page = http.get("/").text
        assert "the gateway does not answer" in page and "who is in which segment" in page
        assert "Messages can’t be read" in http.get("/inbox").text
    finally:
        world.gateway.start()
    until(lambda: "can’t be read" not in http.get("/").text)


def _events(http: httpx.Client, count: int, **headers: str) -> list[tuple[str, dict]]:
    found, id = [], ""
    with http.stream("GET", "/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("id: "):
                id = line[4:]
            if line.startswith("data: "):
                found.append((id, json.loads(line[6:])))
                if len(found) == count:
                    return found
    raise AssertionError("the stream ended")


def test_events_bring_everything_first_and_then_what_changed(world: World, http: httpx.Client):
    (first_id, first), (second_id, second) = _events(http, 2, **{"last-event-id": "no such id"})
    assert set(first["html"]) >= {"runs", "services", "stages", "nav"}
    assert int(second_id) > int(first_id)
    assert "services" not in second["html"]


def test_however_many_look_everybody_upstream_is_asked_once_a_second(world: World):
    clients = [httpx.Client(base_url=world.dashboard.url, timeout=10) for _ in range(8)]
    streams = [c.stream("GET", "/events") for c in clients]
    try:
        lines = [s.__enter__().iter_lines() for s in streams]
        for each in lines:
            next(each)
        until(lambda: world.collector.watching >= 8)
        p, asked = world.processes["profiles"], world.asked
        began, ready, runs = time.monotonic(), p.asked["readyz"], asked["/v1/runs"]
        until(lambda: p.asked["readyz"] - ready >= 3)
        rounds = time.monotonic() - began + 2
        assert p.asked["readyz"] - ready <= rounds and asked["/v1/runs"] - runs <= rounds
    finally:
        for s in streams:
            s.__exit__(None, None, None)
    until(lambda: world.collector.watching == 0)


def test_a_stream_ends_with_the_server(tmp_path: Path):
    made = World(tmp_path)
    with httpx.stream("GET", made.dashboard.url + "/events", timeout=10) as answer:
        lines = answer.iter_lines()
        next(lines)
        made.dashboard.call(made.collector.close())
        assert sum(1 for _ in lines) < 1000
    made.close()


def test_a_frozen_test_clock_is_said(tmp_path: Path):
    create_clock_file(str(tmp_path / "clock"), 1_800_000_000_000)
    made = World(tmp_path, Clock(str(tmp_path / "clock")))
    page = httpx.get(made.dashboard.url, timeout=ANSWER_S).text
    made.close()
    assert "Test clock" in page and "15 Jan 2027, 08:00:00 UTC" in page
