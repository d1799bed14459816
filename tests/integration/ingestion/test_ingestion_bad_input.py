"""Malformed requests over a real socket, with the real producer and Kafka behind: each gets a clear 4xx
or a documented reject, never a 5xx, and its valid neighbours arrive."""

import asyncio
import gzip
import json
import socket
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from rondo_common import kafka as clients
from rondo_common import keys as key_tools
from rondo_common import topics as names
from rondo_common.clock import Clock
from rondo_common.keys import Keys
from rondo_common.records import Event, Rejected
from services.ingestion import api
from services.ingestion.producer import KafkaSink
from tests.support.ingestion_app import WRITE_KEY, MemoryMarks, Provider, eventually, served, settings_for
from tests.support.slowness import ANSWER_S

pytestmark = pytest.mark.integration

GOOD = {"type": "track", "userId": "u", "event": "Good"}
JSON = {"content-type": "application/json"}


class Log:
    """What lies on the topics, read by a client of its own."""

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self.events, self.rejected, self.keys = {}, [], {}
        self._readers = []
        for topic in (names.EVENTS, names.REJECTED):
            reader = clients.reader(bootstrap, f"bad-input-{topic}")
            eventually(lambda r=reader, t=topic: self._assigned(r, t))
            self._readers.append(reader)

    @staticmethod
    def _assigned(reader, topic):
        try:
            return clients.assign_from_start(reader, topic)
        except clients.KafkaException:  # the topic is being made
            return None

    def read(self):
        for reader in self._readers:
            while (message := reader.poll(0.05)) is not None:
                if message.error():
                    continue
                if message.topic() == names.EVENTS:
                    event = msgspec.json.decode(message.value(), type=Event)
                    self.events.setdefault(event.message_id, []).append(event)
                    self.keys[event.message_id] = (message.key(), dict(message.headers()), message.partition())
                else:
                    self.rejected.append(msgspec.json.decode(message.value(), type=Rejected))
        return self

    def close(self):
        for reader in self._readers:
            reader.close()


@pytest.fixture(scope="module")
def stack(kafka, topics, tmp_path_factory):
    topics.catalogue(names.EVENTS, names.REJECTED, names.DELIVERIES, names.ENGAGEMENT, names.INBOUND)
    settings = settings_for(tmp_path_factory.mktemp("door"), Provider(), kafka=kafka)
    box = {}

    async def make():
        sink = KafkaSink(kafka, "ingestion.test")
        box["kept"] = asyncio.create_task(sink.run())
        application = api.build(settings, sink, Keys(settings), Clock(), MemoryMarks())
        return application.asgi

    with served(make) as base:
        log = Log(kafka)
        eventually(lambda: httpx.get(base + "/readyz", timeout=ANSWER_S).status_code == 200)
        yield base, log, settings
        log.close()


def nested(depth, wrap=b'{"type":"track","userId":"u","event":"x","properties":'):
    return wrap + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


def single(**more):
    return json.dumps({**GOOD, **more}).encode()


# name, path, body, headers, status; a batch element stands for a refusal of that event alone
WHOLE = [
    ("empty", "track", b"", JSON, 400),
    ("blank", "track", b"  \n", JSON, 400),
    ("no json", "track", b"hello", JSON, 400),
    ("cut json", "track", b'{"userId":"u","event":', JSON, 400),
    ("trailing", "track", single() + b"}", JSON, 400),
    ("two values", "track", single() + single(), JSON, 400),
    ("array", "track", b"[]", JSON, 400),
    ("string", "track", b'"x"', JSON, 400),
    ("number", "track", b"1", JSON, 400),
    ("null", "track", b"null", JSON, 400),
    ("nan", "track", b'{"userId":"u","event":"x","properties":{"n":NaN}}', JSON, 400),
    ("infinity", "track", b'{"userId":"u","event":"x","properties":{"n":-Infinity}}', JSON, 400),
    ("nan in a batch", "batch", b'{"batch":[{"userId":"u","n":NaN}]}', JSON, 400),
    ("single quotes", "track", b"{'userId':'u'}", JSON, 400),
    ("comment", "track", b'{"userId":"u" /* */}', JSON, 400),
    ("byte order mark", "track", b"\xef\xbb\xbf" + single(), JSON, 400),
    ("utf-16", "track", single().decode().encode("utf-16"), JSON, 400),
    ("broken utf-8", "track", b'{"userId":"\xff\xfe","event":"x"}', JSON, 400),
    ("overlong utf-8", "track", b'{"userId":"\xc0\x80","event":"x"}', JSON, 400),
    ("broken utf-8 in a batch", "batch", b'{"batch":[{"userId":"\xff"}]}', JSON, 400),
    ("lone surrogate", "track", b'{"userId":"u","event":"\\ud800"}', JSON, 400),
    ("raw control character", "track", b'{"userId":"u","event":"\x01"}', JSON, 400),
    ("very deep in a batch", "batch", b'{"batch":[' + nested(5000) + b"]}", JSON, 400),
    ("very deep, open", "batch", b'{"batch":[' + b"[" * 400_000, JSON, 400),
    ("event over 32 KB", "track", single(properties={"x": "y" * 33_000}), JSON, 413),
    ("batch over 500 KB", "batch", b'{"batch":[' + b" " * 520_000 + b"]}", JSON, 413),
    ("over 2500 events", "batch", b'{"batch":[' + b"1," * 2500 + b"1]}", JSON, 413),
    ("gzip bomb", "batch", gzip.compress(b" " * 50_000_000), {**JSON, "content-encoding": "gzip"}, 413),
    ("no gzip", "track", single(), {**JSON, "content-encoding": "gzip"}, 400),
    ("cut gzip", "track", gzip.compress(single())[:-4], {**JSON, "content-encoding": "gzip"}, 400),
    ("gzip with a tail", "track", gzip.compress(single()) + b"x", {**JSON, "content-encoding": "gzip"}, 400),
    ("brotli", "track", single(), {**JSON, "content-encoding": "br"}, 415),
    ("form", "track", b"userId=u", {"content-type": "application/x-www-form-urlencoded"}, 415),
    ("xml", "track", b"<a/>", {"content-type": "application/xml"}, 415),
    ("batch without batch", "batch", b"{}", JSON, 400),
    ("batch no list", "batch", b'{"batch":{}}', JSON, 400),
    ("batch null", "batch", b'{"batch":null}', JSON, 400),
    ("batch an array", "batch", b"[]", JSON, 400),
    ("context no object", "batch", b'{"batch":[],"context":[]}', JSON, 400),
    ("integrations no object", "batch", b'{"batch":[],"integrations":1}', JSON, 400),
    ("context too deep", "batch", b'{"batch":[],"context":' + b'{"a":' * 30 + b"1" + b"}" * 31, JSON, 400),
    ("context with nul", "batch", b'{"batch":[],"context":{"a":"\\u0000"}}', JSON, 400),
    ("unknown endpoint", "purchase", single(), JSON, 404),
    ("slash at the end", "track/", single(), JSON, 404),
    ("odd path", "../v2/track", single(), JSON, 404),
]

EVENTS_REFUSED = [
    ("no type", b'{"userId":"u","event":"x"}', "required", "/type"),
    ("unknown type", b'{"type":"buy","userId":"u"}', "unknown_type", "/type"),
    ("type a list", b'{"type":["track"],"userId":"u"}', "unknown_type", "/type"),
    ("no id", b'{"type":"track","event":"x"}', "required", "/userId"),
    ("empty id", b'{"type":"track","event":"x","userId":""}', "required", "/userId"),
    ("id an object", b'{"type":"track","event":"x","userId":{}}', "wrong_type", "/userId"),
    ("id a boolean", b'{"type":"track","event":"x","userId":true}', "wrong_type", "/userId"),
    ("id a fraction", b'{"type":"track","event":"x","userId":1.5}', "wrong_type", "/userId"),
    ("id too long", b'{"type":"track","event":"x","userId":"' + b"u" * 600 + b'"}', "too_long", "/userId"),
    ("id with nul", b'{"type":"track","event":"x","userId":"a\\u0000"}', "nul_character", "/userId"),
    ("no event name", b'{"type":"track","userId":"u"}', "required", "/event"),
    ("event name a number", b'{"type":"track","userId":"u","event":5}', "wrong_type", "/event"),
    ("properties a list", b'{"type":"track","userId":"u","event":"x","properties":[]}', "wrong_type", "/properties"),
    ("traits a text", b'{"type":"identify","userId":"u","traits":"x"}', "wrong_type", "/traits"),
    ("group without id", b'{"type":"group","userId":"u"}', "required", "/groupId"),
    ("alias without previous", b'{"type":"alias","userId":"u"}', "required", "/previousId"),
    ("alias without user", b'{"type":"alias","anonymousId":"a","previousId":"p"}', "required", "/userId"),
    ("naive time", single(timestamp="2026-11-20T10:00:00"), "naive_timestamp", "/timestamp"),
    ("date only", single(timestamp="2026-11-20"), "unreadable_timestamp", "/timestamp"),
    ("time a number", single(timestamp=1700000000000), "unreadable_timestamp", "/timestamp"),
    ("time in words", single(timestamp="yesterday"), "unreadable_timestamp", "/timestamp"),
    ("impossible time", single(timestamp="2026-02-30T10:00:00Z"), "unreadable_timestamp", "/timestamp"),
    ("before 1900", single(timestamp="1066-10-14T09:00:00Z"), "timestamp_out_of_range", "/timestamp"),
    ("context a list", single(context=[]), "wrong_type", "/context"),
    ("historical a text", single(context={"historical": "true"}), "wrong_type", "/context/historical"),
    ("integrations a text", single(integrations="x"), "wrong_type", "/integrations"),
    ("messageId a list", single(messageId=[]), "wrong_type", "/messageId"),
    ("over 32 KB", single(properties={"x": "y" * 33_000}), "event_too_large", ""),
    ("21 levels", nested(20), "too_deep", ""),
    (
        "number too large",
        b'{"type":"track","userId":"u","event":"x","properties":{"n":1e999}}',
        "number_out_of_range",
        "",
    ),
    ("integer too large", single(properties={"n": 10**50}), "number_out_of_range", "/properties/n"),
    ("no object", b"17", "not_an_object", ""),
    ("null", b"null", "not_an_object", ""),
]


def check_problem(answer, status):
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["trace_id"] == answer.headers["x-request-id"]


def test_there_are_enough_of_them():
    assert len(WHOLE) + len(EVENTS_REFUSED) >= 60


def test_requests_refused_whole_leave_nothing(stack):
    base, log, _ = stack
    before = len(log.read().rejected)
    with httpx.Client(base_url=base, auth=(WRITE_KEY, ""), timeout=ANSWER_S) as http:
        for name, path, body, headers, status in WHOLE:
            for mode in ({}, {"x-strict-mode": "1"}):
                answer = http.post(f"/v1/{path}", content=body, headers={**headers, **mode})
                assert answer.status_code == status, (name, mode, answer.text[:200])
                check_problem(answer, status)
        marker = http.post("/v1/track", content=single(messageId="after-whole"))
        assert marker.status_code == 200
    eventually(lambda: "after-whole" in log.read().events)
    assert set(log.events) <= {"after-whole"} | {i for i in log.events if i.startswith(("n-", "s-"))}
    assert len(log.rejected) == before


def test_bad_events_are_filed_and_their_neighbours_arrive(stack):
    base, log, _ = stack
    seen = len(log.read().rejected)
    raws, good = [], []
    for i, (_, raw, _, _) in enumerate(EVENTS_REFUSED):
        good.append(f"n-{i}")
        raws += [single(messageId=good[-1]), raw]
    with httpx.Client(base_url=base, auth=(WRITE_KEY, ""), timeout=ANSWER_S) as http:
        body = b'{"batch":[' + b",".join(raws) + b"]}"
        answer = http.post("/v1/batch", content=body, headers=JSON)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        strict = http.post("/v1/batch", content=body.replace(b'"n-', b'"x-'), headers={**JSON, "x-strict-mode": "1"})
        check_problem(strict, 400)
        want = [(code, f"/batch/{2 * i + 1}{pointer}") for i, (_, _, code, pointer) in enumerate(EVENTS_REFUSED)]
        assert [(e["code"], e["pointer"]) for e in strict.json()["errors"]] == want
        for name, raw, code, pointer in EVENTS_REFUSED:
            alone = http.post("/v1/batch", content=b'{"batch":[' + raw + b"]}", headers={**JSON, "x-strict-mode": "1"})
            assert [(e["code"], e["pointer"]) for e in alone.json()["errors"]] == [(code, f"/batch/0{pointer}")], name
    eventually(lambda: set(good) <= set(log.read().events) and len(log.rejected) - seen >= len(want))
    assert sorted((r.code, r.pointer) for r in log.rejected[seen:]) == sorted(want)
    assert all(len(log.events[i]) == 1 for i in good)
    assert not any(i.startswith("x-") for i in log.events)
    # one sender is one partition; the record carries CloudEvents headers and a trace
    places = {log.keys[i][2] for i in good}
    assert len(places) == 1
    headers = log.keys[good[0]][1]
    assert headers["ce_id"] == good[0].encode()
    assert headers["traceparent"].startswith(b"00-")


def test_keys(stack):
    base, log, settings = stack
    bad = ["wk_wrong", "", "rk_test_key", WRITE_KEY[:-1], WRITE_KEY + "x", WRITE_KEY.upper(), "wk_internal_demo_0"]
    bad.append(key_tools.make_internal_key("another secret", "demo"))
    with httpx.Client(base_url=base, timeout=ANSWER_S) as http:
        for key in bad:
            check_problem(http.post("/v1/track", content=single(messageId="key"), auth=(key, "")), 401)
            check_problem(http.post("/v1/track", content=single(messageId="key", writeKey=key)), 401)
        for header in ("Basic", "Basic !!!", "Basic " + "A" * 3, "Digest x", "basic \u00e9".encode("latin-1")):
            answer = http.post("/v1/track", content=single(messageId="key"), headers={"authorization": header})
            check_problem(answer, 401)
        check_problem(http.post("/v1/track", content=single(messageId="key", writeKey=17)), 401)
        foreign = key_tools.make_internal_key(settings.secret, "other")
        ok = http.post("/v1/track", content=single(messageId="s-foreign"), auth=(foreign, ""))
        assert ok.status_code == 200
    eventually(lambda: "s-foreign" in log.read().events)
    assert "key" not in log.events
    assert log.events["s-foreign"][0].workspace == "other"


def test_methods(stack):
    base, _, _ = stack
    with httpx.Client(base_url=base, auth=(WRITE_KEY, ""), timeout=ANSWER_S) as http:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = http.request(method, "/v1/track")
            check_problem(answer, 405)
            assert "POST" in answer.headers["allow"]
            check_problem(http.request(method, "/v1/callbacks/telegram"), 405)
        check_problem(http.get("/v1/nothing"), 404)


def test_future_and_old_times_are_taken(stack):
    base, log, _ = stack
    with httpx.Client(base_url=base, auth=(WRITE_KEY, ""), timeout=ANSWER_S) as http:
        for id, at in (("s-future", "2999-01-01T00:00:00Z"), ("s-old", "1912-04-14T23:40:00Z")):
            assert http.post("/v1/track", content=single(messageId=id, timestamp=at)).status_code == 200
    eventually(lambda: {"s-future", "s-old"} <= set(log.read().events))
    future, old = log.events["s-future"][0], log.events["s-old"][0]
    assert future.timestamp == future.received_at
    assert future.original_timestamp == "2999-01-01T00:00:00Z"
    assert old.timestamp == "1912-04-14T23:40:00Z"


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/tr\x00ck HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n",
    ],
)
def test_broken_http_never_hurts_the_server(stack, raw):
    base, _, _ = stack
    where = urlsplit(base)
    with socket.create_connection((where.hostname, where.port), timeout=10) as s:
        s.sendall(raw)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    assert not answer.startswith(b"HTTP/1.1 5")
    assert not answer.startswith(b"HTTP/1.1 2")
    assert httpx.get(base + "/healthz", timeout=ANSWER_S).status_code == 200
