"""The live page and its events."""

from collections.abc import AsyncIterator

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.problems import Problem
from services.dashboard.api.page import page
from services.dashboard.collector import Collector

MOST = 200
"""Event streams at one time."""
HEARTBEAT_S = 15


async def show(request: Request) -> Response:
    """The live page as of now; its script keeps it so."""
    return await page(request, "live")


async def events(request: Request) -> Response:
    """Every sample as an event: first all fragments, then those that changed. Where a stream left off
    (Last-Event-ID) makes no difference: only the present counts."""
    collector: Collector = request.app.state.collector
    if collector.watching >= MOST:
        raise Problem(503, "busy", "Too many open pages", headers={"Retry-After": "5"})
    return EventSourceResponse(_stream(collector), ping=HEARTBEAT_S, headers={"x-accel-buffering": "no"})


async def _stream(collector: Collector) -> AsyncIterator[ServerSentEvent]:
    sent: dict[str, str] = {}
    with collector.watched():
        async for snapshot, html in collector.following():
            changed = {name: text for name, text in html.items() if sent.get(name) != text}
            sent = html
            captured = snapshot.inbox["total"] if snapshot.inbox else None
            data = msgspec.json.encode({"html": changed, "captured": captured}).decode()
            yield ServerSentEvent(data, event="sample", id=str(snapshot.sequence), retry=2_000)
