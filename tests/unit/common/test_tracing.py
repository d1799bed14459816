"""Spans: what is sent, what hangs below what, and that off means off."""

from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rondo_common import telemetry, tracing, web
from rondo_common.outcomes import Emit
from rondo_common.stage import Record
from rondo_common.streams.envelope import Envelope
from tests.support.otlp import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    tracing.close()
    made.close()


def test_off_gives_the_parent_and_sends_nothing() -> None:
    tracing.configure("x", "0", "")
    assert not tracing.on() and not tracing.kept(PARENT)
    with tracing.span("a", tracing.SERVER, PARENT) as own:
        assert own == PARENT


def test_spans_hang_below_one_another_and_carry_their_error(collector: Collector) -> None:
    tracing.configure("profiles", "0", collector.url)
    outside = tracing.span("outer", tracing.SERVER, PARENT, {"http.route": "/v1/track"})
    with pytest.raises(KeyError), outside as outer, tracing.span("inner", tracing.CLIENT, outer):
        raise KeyError("ann@example.com")
    tracing.close()
    found = {span.name: (service, span) for service, span in collector.spans}
    assert found["outer"][0] == "profiles"
    outer_span, inner_span = found["outer"][1], found["inner"][1]
    assert outer_span.trace_id.hex() == inner_span.trace_id.hex() == TRACE
    assert outer_span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert inner_span.parent_span_id == outer_span.span_id
    assert inner_span.status.message == "KeyError"
    assert b"example.com" not in inner_span.SerializeToString()


def test_a_trace_is_kept_by_its_flag_and_its_id(collector: Collector) -> None:
    tracing.configure("x", "0", collector.url, ratio=0.5)
    low, high = f"00-{'1' * 24}7fffffff-{'a' * 16}-01", f"00-{'1' * 24}80000001-{'a' * 16}-01"
    assert tracing.kept(low) and not tracing.kept(high)
    assert not tracing.kept(low[:-2] + "00")
    assert not tracing.kept("garbage") and not tracing.kept(None)


async def test_a_request_is_a_span_named_by_its_route(collector: Collector) -> None:
    tracing.configure("gateway", "0", collector.url)
    seen = []

    async def member(_: object) -> PlainTextResponse:
        seen.append(telemetry.traceparent())
        return PlainTextResponse("ok")

    app = web._Envelope(Starlette(routes=[Route("/v1/members/{id}", member)]), 1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await client.get("/v1/members/ann@example.com", headers={"traceparent": PARENT})
    tracing.close()
    [(service, span)] = collector.spans
    assert (service, span.name) == ("gateway", "GET /v1/members/{id}")
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert seen == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    assert b"ann@" not in span.SerializeToString()


def test_records_carry_the_trace_on_and_a_replay_has_the_same_span(collector: Collector) -> None:
    def derived(stage: str, record: Record, index: int = 0) -> str:
        headers = dict(Envelope(stage).headers(Emit("rondo.x.v1", "k", b"", "x.y"), record, 1, index, 2000))
        return headers["traceparent"].decode()

    tracing.configure("profiles", "0", collector.url)
    event = Record("rondo.events.v1", 3, 7, "demo:secret-key", b"{}", 1000, {"ce_id": "e1", "traceparent": PARENT})
    first = derived("profiles", event)
    assert first[:36] == PARENT[:36] and first != PARENT
    assert derived("profiles", event, index=1) == first
    member_event = Record("rondo.member-events.v1", 3, 9, "k", b"{}", 1000, {"ce_id": "e2", "traceparent": first})
    derived("segmentation", member_event)
    tracing.close()
    spans = {span.name: span for _, span in collector.spans}
    assert set(spans) == {"profiles process rondo.events.v1", "segmentation process rondo.member-events.v1"}
    below = spans["segmentation process rondo.member-events.v1"]
    assert below.parent_span_id == spans["profiles process rondo.events.v1"].span_id
    assert below.start_time_unix_nano == 1_000_000_000 < below.end_time_unix_nano
    assert not any(b"secret-key" in span.SerializeToString() for span in spans.values())
