"""Who may ask: pages of our own, under a name that is ours.

The pages act with the admin key, so another site in the same browser must not be able to post to them
(forms are taken only with our own Origin and our SameSite cookie) nor, by pointing a name of its own
at this address, to read them (names must be known; bare IP addresses can't be another site's).
Every answer says what the browser may load: our own files, nothing inline.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rondo_common import web
from rondo_common.problems import Problem

COOKIE = "rondo_here"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/healthz", "/readyz", "/metrics")
"""Asked by machines, under whatever name they know."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """ASGI middleware. `own_url` is the address people use, as RONDO_URL_DASHBOARD says."""

    def __init__(self, app: ASGIApp, own_url: str):
        self._app = app
        self._own = (urlsplit(own_url).hostname or "").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if f"{COOKIE}=" not in headers.get("cookie", "") and not scope["path"].startswith("/static/"):
                    out.append("set-cookie", f"{COOKIE}=1; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        no = self._refusal(scope, headers)
        if no is None:
            await self._app(scope, receive, guarded)
        else:
            await web.problem_response(no, Request(scope))(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self._known(host):
            detail = f"Set RONDO_URL_DASHBOARD to the address people use, if {host!r} is yours"
            return Problem(421, "unknown-host", "This name is not known here", detail)
        if scope["method"] in SAFE:
            return None
        if urlsplit(headers.get("origin", "")).netloc != host:
            return Problem(403, "cross-origin", "This form came from another site", "Reload the page and try again")
        if f"{COOKIE}=" not in headers.get("cookie", ""):
            return Problem(403, "cross-origin", "This form came without our cookie", "Reload the page and try again")
        return None

    def _known(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        if name == self._own or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True
