"""The public routes over a real socket, with a producer that is told what Kafka does."""

import re
from html.parser import HTMLParser

import httpx
import msgspec
import pytest

from rondo_common.clock import Clock, create_clock_file
from rondo_common.lifecycle import Life
from rondo_common.links import Link, Signer
from rondo_common.records import Engagement
from rondo_common.settings import Settings
from services.links import api as links_api
from services.links.api import Api, make_app
from services.links.sink import Sink
from tests.support.slowness import ANSWER_S

CHROME = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36"}
NOW = 1_800_000_000_000


class FakeKafka:
    """A producer. `up`: acknowledge at once; `full`: its queue takes no more."""

    def __init__(self):
        self.up, self.full = True, False
        self.rows = []
        self.waiting = []

    def produce(self, topic, key, value, headers, timestamp, on_delivery):
        if self.full:
            raise BufferError
        self.rows.append((topic, key, msgspec.json.decode(value, type=Engagement), headers, timestamp))
        if self.up:
            on_delivery(None, None)
        else:
            self.waiting.append(on_delivery)

    def poll(self, timeout):
        return 0

    def flush(self, timeout):
        return 0

    def __len__(self):
        return len(self.waiting)


class Running:
    def __init__(self, kafka, signer, http):
        self.kafka, self.signer, self.http = kafka, signer, http

    def path(self, kind="click", url="https://shop.example/a?x=1&y=%C3%A9", topic="offers", channel="email"):
        link = Link(kind, "demo", "m1", "t1", "r1", "spring", channel, topic, url if kind == "click" else "")
        return self.signer.url("", link)

    @property
    def records(self):
        return [row[2] for row in self.kafka.rows]


@pytest.fixture
async def links(tmp_path, monkeypatch):
    monkeypatch.setattr(links_api, "WAIT_S", 0.05)
    monkeypatch.setattr(links_api, "WAIT_UNSUBSCRIBE_S", 0.05)
    create_clock_file(str(tmp_path / "clock"), NOW)
    life = Life(Settings(service="links"))
    kafka, signer = FakeKafka(), Signer("secret")
    sink = Sink(kafka)
    app = make_app(Api(signer, sink, Clock(str(tmp_path / "clock"))), lambda: (True, ""))
    port = await life.http(app)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=CHROME, timeout=ANSWER_S) as http:
        yield Running(kafka, signer, http)
    life.stop()
    await life._end(1.0)


async def test_click(links):
    answer = await links.http.get(links.path())
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://shop.example/a?x=1&y=%C3%A9"
    assert "no-store" in answer.headers["cache-control"]
    topic, key, record, headers, time = links.kafka.rows[0]
    assert (topic, key, time) == ("rondo.engagement.v1", "demo:m1", NOW)
    assert (record.kind, record.actor, record.run_id, record.channel) == ("clicked", "human", "r1", "email")
    assert headers["ce_id"] == record.id
    assert "set-cookie" not in answer.headers


async def test_head_is_a_program(links):
    answer = await links.http.head(links.path())
    assert (answer.status_code, answer.content) == (302, b"")
    assert [(r.kind, r.actor) for r in links.records] == [("clicked", "machine")]


async def test_open(links):
    answer = await links.http.get(links.path("open"))
    assert (answer.status_code, answer.headers["content-type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
    assert [(r.kind, r.actor, r.link) for r in links.records] == [("opened", "human", None)]


@pytest.mark.parametrize("change", [
    lambda p: p[:-2] + ("A" if p[-2] != "A" else "B") + p[-1],
    lambda p: p.replace("/l/", "/u/"),
    lambda p: "/l/x",
    lambda p: "/l/" + "A" * 9000,
    lambda p: "/l/%00%0d%0aLocation:%20https:%2f%2fevil.example",
])  # fmt: skip
async def test_only_signed_addresses_lead_anywhere(links, change):
    answer = await links.http.get(change(links.path()))
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert links.records == []


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "", "//evil.example"])
async def test_even_signed_only_the_web(links, url):
    assert (await links.http.get(links.path(url=url))).status_code == 404


async def test_a_bad_pixel_is_still_a_picture(links):
    answer = await links.http.get("/o/nonsense.gif")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    assert links.records == []


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


async def test_the_form_changes_nothing_and_is_plain(links):
    answer = await links.http.get(links.path("unsubscribe"))
    assert answer.status_code == 200
    assert links.records == []
    outline = Outline()
    outline.feed(answer.text)
    names = [tag for tag, _ in outline.tags]
    assert ("html", {"lang": "en"}) in outline.tags
    assert names.count("h1") == 1
    assert {"title", "main", "form"} <= set(names)
    assert "script" not in names
    assert [a for t, a in outline.tags if t == "form"] == [{"method": "post"}]
    assert [a["value"] for t, a in outline.tags if t == "button"] == ["topic", "all"]
    assert "offers" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    head = await links.http.head(links.path("unsubscribe"))
    assert (head.status_code, links.records) == (200, [])


@pytest.mark.parametrize(
    ("send", "topic"),
    [
        ({"data": {"List-Unsubscribe": "One-Click"}}, "offers"),
        ({"files": {"List-Unsubscribe": (None, "One-Click")}}, "offers"),
        ({"content": b""}, "offers"),
        ({"content": b"\xff&=&a" * 200}, "offers"),
        ({"data": {"scope": "topic"}}, "offers"),
        ({"data": {"scope": "all"}}, "*"),
    ],
)
async def test_one_click_unsubscribe(links, send, topic):
    answer = await links.http.post(links.path("unsubscribe"), **send)
    assert answer.status_code == 200
    assert [(r.kind, r.actor, r.channel, r.topic, r.member_id) for r in links.records] == [
        ("unsubscribed", "human", "email", topic, "m1")
    ]
    assert re.search(r'role="status"', answer.text)
    assert "set-cookie" not in answer.headers


async def test_without_a_topic_the_whole_channel(links):
    await links.http.post(links.path("unsubscribe", topic=""))
    assert links.records[0].topic == "*"


async def test_a_topic_is_text_and_not_markup(links):
    answer = await links.http.get(links.path("unsubscribe", topic="<b onclick=x>"))
    assert "<b onclick" not in answer.text


async def test_without_kafka_links_still_lead_on(links):
    links.kafka.up = False
    for _ in range(2):
        assert (await links.http.get(links.path())).status_code == 302
    assert (await links.http.get(links.path("open"))).status_code == 200
    links.kafka.full = True
    assert (await links.http.get(links.path(url="https://shop.example/b"))).status_code == 302


async def test_an_unsubscribe_is_not_confirmed_before_the_log_has_it(links):
    links.kafka.up = False
    answer = await links.http.post(links.path("unsubscribe"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    links.kafka.full = True
    assert (await links.http.post(links.path("unsubscribe"))).status_code == 503
    links.kafka.up, links.kafka.full = True, False
    assert (await links.http.post(links.path("unsubscribe"))).status_code == 200


async def test_limits_and_unknown_addresses(links):
    assert (await links.http.post(links.path("unsubscribe"), content=b"a" * 20_000)).status_code == 413
    assert (await links.http.post(links.path())).status_code == 405
    assert (await links.http.get("/nowhere")).status_code == 404
    assert (await links.http.get("/healthz")).status_code == 200
    assert (await links.http.get("/readyz")).json() == {"ready": True, "detail": ""}
    assert "rondo_links_engagement_total" in (await links.http.get("/metrics")).text
