"""The public routes. No cookies, no scripts, no look-ups: the token says all."""

import base64
import time
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from rondo_common import health, web
from rondo_common.clock import Clock
from rondo_common.health import Ready
from rondo_common.links import BadToken, Link, Signer
from rondo_common.records import Engagement
from services.links import pages
from services.links.classify import HUMAN
from services.links.handlers import Follower, engagement
from services.links.sink import Sink

WAIT_S = 0.3
"""Longest a redirect or pixel waits for the log."""
WAIT_LATE_S = 0.01
"""The same while Kafka is known not to answer."""
WAIT_UNSUBSCRIBE_S = 5.0
"""An unsubscribe is only confirmed when the log has it."""
MAX_BODY = 16_384

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_NO_STORE = {"cache-control": "no-store, no-cache, must-revalidate, private", "referrer-policy": "no-referrer"}


class Api:
    """The routes over a signer, the log and a clock."""

    def __init__(self, signer: Signer, sink: Sink, clock: Clock):
        self._signer = signer
        self._sink = sink
        self._clock = clock
        self._follower = Follower()

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/l/{token}", self.click, methods=["GET", "HEAD"]),
            Route("/o/{token}.gif", self.open, methods=["GET", "HEAD"]),
            Route("/u/{token}", self.unsubscribe_form, methods=["GET", "HEAD"]),
            Route("/u/{token}", self.unsubscribe, methods=["POST"]),
        ]

    async def click(self, request: Request) -> Response:
        """302 to the signed address, whether or not the click could be written."""
        link = self._read(request, "click")
        if link is None or urlsplit(link.url).scheme not in ("http", "https"):
            return _unknown()
        await self._note(link, request)
        return RedirectResponse(link.url, 302, headers=_NO_STORE)

    async def open(self, request: Request) -> Response:
        """The pixel, also for a bad token: a mail shows no broken picture."""
        link = self._read(request, "open")
        if link is not None:
            await self._note(link, request)
        return Response(PIXEL, headers=_NO_STORE, media_type="image/gif")

    async def unsubscribe_form(self, request: Request) -> Response:
        """Changes nothing: link scanners come here too."""
        link = self._read(request, "unsubscribe")
        return _unknown() if link is None else _html(pages.form(link.channel, link.topic))

    async def unsubscribe(self, request: Request) -> Response:
        """RFC 8058: a POST with whatever body unsubscribes, without cookies, log-in or redirect. The
        form's own button may ask for the whole channel."""
        link = self._read(request, "unsubscribe")
        if link is None:
            return _unknown()
        topic = "*" if _asks_for_all(await request.body()) or not link.topic else link.topic
        now = self._clock.now()
        written = self._sink.put(engagement(link, now, HUMAN, topic), now)
        if not await self._sink.confirmed(written, WAIT_UNSUBSCRIBE_S):
            return _html(pages.not_saved(), 503, {"retry-after": "30"})
        return _html(pages.done(link.channel, topic))

    def _read(self, request: Request, kind: str) -> Link | None:
        try:
            link = self._signer.read(request.path_params["token"])
        except BadToken:
            return None
        return link if link.kind == kind else None

    async def _note(self, link: Link, request: Request) -> None:
        now = self._clock.now()
        ticks = time.monotonic_ns() // 1_000_000
        made: Engagement | None = self._follower.follow(link, request.method, request.headers, now, ticks)
        if made is not None:
            written = self._sink.put(made, now)
            await self._sink.confirmed(written, WAIT_LATE_S if self._sink.late else WAIT_S)


def _asks_for_all(body: bytes) -> bool:
    try:
        return parse_qs(body.decode("latin-1"), max_num_fields=20).get("scope") == ["all"]
    except ValueError:  # too many fields: not our form
        return False


def _html(page: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(page, status, headers={**pages.HEADERS, **(headers or {})})


def _unknown() -> Response:
    return _html(pages.unknown(), 404)


def make_app(api: Api, ready: Ready) -> Starlette:
    """The whole HTTP application."""
    app = Starlette(routes=[*health.routes(ready), *api.routes()])
    web.install(app, max_body=MAX_BODY)
    return app
