"""The Segment endpoints as one small ASGI application in front of the others.

They carry nearly all of the traffic, so they are answered before routing and middleware: one look at
path and method, the headers read once, the body handed to Intake. Everything else goes on to the
application behind (api.py). What goes wrong is the same problem document as everywhere.
"""

import base64
import binascii
import random
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from rondo_common import telemetry, tracing, web
from rondo_common.keys import Keys
from rondo_common.problems import Problem, unavailable
from services.ingestion import body as bodies
from services.ingestion.intake import Intake, key_in, limit_of

CALLS = ("identify", "track", "page", "screen", "group", "alias", "batch", "import")
SHORT = {"i": "identify", "t": "track", "p": "page", "s": "screen", "g": "group", "a": "alias", "b": "batch"}
"""The browser SDK's short names of the same calls."""

PATHS = {f"/v1/{c}": c for c in CALLS} | {f"/v1/{s}": c for s, c in SHORT.items()}

CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, x-strict-mode, traceparent"),
    (b"access-control-max-age", b"86400"),
    (b"content-length", b"0"),
]
_SUCCESS = b'{"success":true}'
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_SUCCESS)),
    (b"access-control-allow-origin", b"*"),
]
_MAX_KNOWN = 4096

REQUESTS = telemetry.counter("rondo_ingest_requests_total", "Segment calls by endpoint and status", ("call", "status"))
_OK = {c: REQUESTS.labels(c, "200") for c in CALLS}

log = telemetry.logger(__name__)


def wrong_key(detail: str = "") -> Problem:
    """401 as Basic auth wants it."""
    return Problem(
        401,
        "unauthenticated",
        "A valid write key is needed",
        detail or "Send the write key as the user of Basic auth, or as writeKey in the body",
        headers={"WWW-Authenticate": 'Basic realm="rondo", charset="UTF-8"'},
    )


def basic_user(authorization: str) -> str | None:
    """The user of a Basic Authorization header (the password may be anything); None when it is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[0]
    except (binascii.Error, ValueError):
        return None


def workspace_of(keys: Keys, key: str) -> str:
    """The workspace of a write key; Problem 401, or 503 while issued keys are still being read."""
    grant = keys.write(key)
    if grant is not None:
        return grant.workspace
    if not keys.complete():
        raise unavailable("Keys", "They are still being read")
    raise wrong_key()


class Door:
    """See the module. `app` answers whatever is no Segment call."""

    def __init__(self, app: ASGIApp, intake: Intake, keys: Keys):
        self._app = app
        self._intake = intake
        self._keys = keys
        self._known: dict[bytes, tuple[int, str]] = {}
        self._generation = 0
        keys.on_change(self._forget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = PATHS.get(scope["path"]) if scope["type"] == "http" else None
        if call is None:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        trace, parent = _trace(headers.get(b"traceparent"))
        arrived = time.time_ns() if tracing.on() else 0
        try:
            method = scope["method"]
            if method == "OPTIONS":
                await send({"type": "http.response.start", "status": 204, "headers": CORS})
                await send({"type": "http.response.body", "body": b""})
                return
            if method != "POST":
                detail = "Segment calls are POSTed"
                raise Problem(
                    405, "method-not-allowed", "This address has no such method", detail, headers={"Allow": "POST"}
                )
            await self._take(call, headers, receive, parent)
        except bodies.Gone:
            return
        except Problem as problem:
            await self._refuse(problem, call, trace, scope, receive, send)
            return
        except Exception as e:
            log.error("request failed", call=call, trace_id=trace, exc_info=e)
            failed = Problem(500, "internal", "Something went wrong on our side")
            await self._refuse(failed, call, trace, scope, receive, send)
            return
        _OK[call].inc()
        if arrived:
            _report(call, headers, parent, arrived, 200)
        started = {"type": "http.response.start", "status": 200}
        await send({**started, "headers": [*_HEADERS, (b"x-request-id", trace.encode())]})
        await send({"type": "http.response.body", "body": _SUCCESS})

    async def _take(self, call: str, headers: dict[bytes, bytes], receive: Receive, parent: str) -> None:
        limit = limit_of(call)
        authorization = headers.get(b"authorization")
        workspace = self._authorized(authorization) if authorization is not None else None
        kind = headers.get(b"content-type")
        if kind is not None and kind != b"application/json":
            bodies.check_type(kind.decode("latin-1"))
        data = await bodies.read(receive, limit, bodies.header(headers, b"content-length"))
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            data = bodies.inflated(data, encoding.decode("latin-1").strip().lower(), limit)
        if workspace is None:
            workspace = workspace_of(self._keys, key_in(data) or "")
        strict = headers.get(b"x-strict-mode") in (b"1", b"true")
        await self._intake.take(call, workspace, data, strict, parent)

    def _authorized(self, authorization: bytes) -> str | None:
        """The workspace of a Basic header. None for other schemes: an OAuth bearer comes with a
        writeKey in the body."""
        known = self._known.get(authorization)
        generation = self._generation
        if known is not None and known[0] == generation:
            return known[1]
        text = authorization.decode("latin-1")
        if not text.lower().startswith("basic"):
            return None
        key = basic_user(text)
        if key is None:
            raise wrong_key("The Authorization header can't be read")
        workspace = workspace_of(self._keys, key)
        if len(self._known) < _MAX_KNOWN:
            self._known[authorization] = (generation, workspace)
        return workspace

    def _forget(self) -> None:
        # called by the thread that reads definitions; what is being remembered meanwhile has an old number
        self._generation += 1
        self._known.clear()

    async def _refuse(
        self, problem: Problem, call: str, trace: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        REQUESTS.labels(call, str(problem.status)).inc()
        telemetry.start_trace(f"00-{trace}-{trace[:16]}-01")
        problem.headers = {**problem.headers, "Access-Control-Allow-Origin": "*", "X-Request-Id": trace}
        await web.problem_response(problem, Request(scope))(scope, receive, send)


_bits = random.Random().getrandbits
"""Ids of traces only: nothing rests on nobody guessing them."""
_HEX = frozenset(b"0123456789abcdef")


def _report(call: str, headers: dict[bytes, bytes], own: str, arrived: int, status: int) -> None:
    """The span of a call that was taken: `own` is what its records carry, the caller's header is above it."""
    came = headers.get(b"traceparent", b"").decode("latin-1")
    tracing.request("POST", "/v1/" + call, status, own, came if came[3:35] == own[3:35] else None, arrived)


def _trace(traceparent: bytes | None) -> tuple[str, str]:
    """(trace id, traceparent of our records): the caller's trace continued, or a new one."""
    if traceparent is not None and len(traceparent) >= 55 and traceparent[2:3] == b"-":
        trace = traceparent[3:35]
        if _HEX.issuperset(trace) and trace != b"0" * 32:
            text = trace.decode()
            return text, f"00-{text}-{_bits(64):016x}-01"
    text = f"{_bits(128):032x}"
    return text, f"00-{text}-{_bits(64):016x}-01"
