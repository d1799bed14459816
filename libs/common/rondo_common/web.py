"""HTTP the same way in every service: problem documents, request ids, body limits, strict JSON.

    app = FastAPI(...)                 # or Starlette(routes=[...])
    web.install(app, max_body=512_000)

    @app.post("/v1/things")
    async def make(request: Request):
        thing = await web.read(request, Thing)          # msgspec Struct; 400, 413, 415 or 422 by themselves
        raise Problem(409, "exists", "This thing exists")

After `install` everything that goes wrong is answered as application/problem+json (RFC 9457) with
`instance` and `trace_id`: Problem as it is, FastAPI's validation errors as 422 with JSON pointers,
unknown paths as 404, anything else as 500 without details. Every answer carries X-Request-Id, which
is the trace id; a `traceparent` that came in is continued.
"""

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rondo_common import telemetry, tracing
from rondo_common.problems import Problem, conflict, from_validation, invalid, not_found, not_implemented, unavailable

__all__ = [
    "Problem",
    "conflict",
    "from_validation",
    "install",
    "invalid",
    "json_response",
    "not_found",
    "not_implemented",
    "page",
    "problem_response",
    "read",
    "read_json",
    "unavailable",
]

PROBLEM_JSON = "application/problem+json"
MAX_BODY = 1_048_576
"""Bytes of a request's body unless `install` says otherwise; above it: 413."""

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_OF_FILES = ("GET", "HEAD")
"""Of a mount, which names none: what is mounted here are files."""
T = TypeVar("T")
log = telemetry.logger(__name__)

REQUESTS = telemetry.histogram(
    "rondo_http_request_seconds", "HTTP requests by method, route and status class", ("method", "route", "status")
)

_TITLES = {
    400: ("malformed", "The request can't be read"),
    401: ("unauthenticated", "A valid key is needed"),
    403: ("forbidden", "This key may not do that"),
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "This address has no such method"),
    406: ("not-acceptable", "No form of the answer is acceptable"),
    413: ("too-large", "The request is too large"),
    415: ("unsupported-media-type", "The content type is not supported"),
}


def problem_response(problem: Problem, request: Request | None = None) -> Response:
    """The HTTP answer of a Problem."""
    path = request.url.path if request is not None else ""
    body = msgspec.json.encode(problem.body(path, telemetry.trace_id()))
    return Response(body, problem.status, headers=problem.headers, media_type=PROBLEM_JSON)


async def read_json(request: Request) -> bytes:
    """The body of a JSON request: 415 unless its content type is JSON, 413 above the limit, 400 when
    it is empty or not UTF-8."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, *_TITLES[415], detail=f"Send application/json, not {kind}")
    body = await request.body()
    if not body.strip():
        raise Problem(400, *_TITLES[400], detail="The body is empty; JSON is expected")
    return body


async def read(request: Request, type: type[T]) -> T:
    """The body as `type` (a msgspec Struct, better with forbid_unknown_fields=True). 400 when it is not
    JSON (NaN and Infinity are not), 422 with pointers when it does not fit."""
    return decode(await read_json(request), type)


def decode(body: bytes, type: type[T], prefix: str = "") -> T:
    """`body` as `type`, or Problem 400 or 422. `prefix` is the JSON pointer of where it stands."""
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as e:
        raise from_validation(e, prefix) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Problem(400, *_TITLES[400], detail=f"Not JSON: {e}") from e


def page(data: list[Any], next_cursor: str | None = None) -> dict[str, Any]:
    """The body of every list."""
    return {"data": data, "next_cursor": next_cursor}


def install(app: Starlette, max_body: int = MAX_BODY) -> None:
    """Make `app` (Starlette or FastAPI) behave as this module says. `max_body` in bytes as received."""
    app.add_exception_handler(Problem, _on_problem)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_http)  # type: ignore[arg-type]
    try:
        from fastapi.exceptions import RequestValidationError

        app.add_exception_handler(RequestValidationError, _on_validation)  # type: ignore[arg-type]
    except ImportError:  # pragma: no cover - fastapi is installed wherever services run
        pass
    app.add_middleware(_Envelope, max_body=max_body)


async def _on_problem(request: Request, error: Problem) -> Response:
    return problem_response(error, request)


async def _on_http(request: Request, error: HTTPException) -> Response:
    kind, title = _TITLES.get(error.status_code, ("about:blank", str(error.detail)))
    detail = "" if str(error.detail) == title else str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request))
    return problem_response(Problem(error.status_code, kind, title, detail, headers=headers), request)


def _methods_at(request: Request) -> list[str]:
    """Every method an address has: the router that refuses names only those of the first route that fits. Where an
    address is spelt out (`.../raw`), a pattern that would fit it too (`.../{action}`) is another address."""
    fits = [r for r in _flat(request.app.routes) if r.path_regex.match(request.scope["path"])]
    least = min((r.path.count("{") for r in fits), default=0)
    found = {m for r in fits if r.path.count("{") == least for m in getattr(r, "methods", None) or _OF_FILES}
    return [m for m in _METHODS if m in found]


def _flat(routes: Sequence[BaseRoute]) -> list[Any]:
    """Routes that have a path; FastAPI keeps those of a router it includes to itself."""
    if any(not hasattr(r, "path") for r in routes):
        from fastapi.routing import iter_route_contexts

        routes = list(iter_route_contexts(routes))
    return [r for r in routes if getattr(r, "path", None)]


async def _on_validation(request: Request, error: Any) -> Response:
    errors = []
    for e in error.errors():
        where = [str(p).replace("~", "~0").replace("/", "~1") for p in e["loc"]]
        if e["type"] == "json_invalid":
            return problem_response(Problem(400, *_TITLES[400], detail=f"Not JSON: {e['msg']}"), request)
        pointer = "/" + "/".join(where[1:] if where[:1] == ["body"] else where)
        code = {"extra_forbidden": "unknown_field", "missing": "required"}.get(e["type"], e["type"])
        errors.append(invalid(pointer if where[1:] or where[:1] != ["body"] else "", code, e["msg"]))
    first = errors[0]["detail"] if errors else ""
    return problem_response(Problem(422, "invalid-request", "The request is not valid", first, errors), request)


def _route(scope: Scope) -> str:
    """The pattern a request matched, for metrics: never the path itself, which may hold ids."""
    route = scope.get("route")
    return getattr(route, "path", "") or ("other" if not scope.get("endpoint") else "mounted")


class _Envelope:
    """Trace id in, X-Request-Id out, body limit and request metric, as plain ASGI."""

    def __init__(self, app: ASGIApp, max_body: int):
        self._app = app
        self._max = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        came = headers.get(b"traceparent", b"").decode("latin-1")
        trace = telemetry.start_trace(came)
        parent = telemetry.traceparent()
        traced = tracing.kept(parent)
        if traced:
            telemetry.enter_span(tracing.child(parent))
        own, started = telemetry.traceparent(), time.time_ns()
        seen = 0
        status = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max:
                raise Problem(413, *_TITLES[413], detail=f"At most {self._max} bytes")
            return message

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", trace.encode())]}
            await send(message)

        declared = headers.get(b"content-length", b"0")
        begun = time.perf_counter()
        try:
            if declared.isdigit() and int(declared) > self._max:
                problem = Problem(413, *_TITLES[413], detail=f"At most {self._max} bytes")
                await problem_response(problem, Request(scope))(scope, receive, stamped)
            else:
                await self._app(scope, limited, stamped)
        except Exception as e:
            if status:
                raise
            log.error("request failed", method=scope["method"], route=_route(scope), exc_info=e)
            problem = Problem(500, "internal", "Something went wrong on our side")
            await problem_response(problem, Request(scope))(scope, receive, stamped)
        finally:
            spent = time.perf_counter() - begun
            REQUESTS.labels(scope["method"], _route(scope), f"{(status or 500) // 100}xx").observe(spent)
            if traced:
                tracing.request(scope["method"], _route(scope), status or 500, own, parent if came else None, started)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of any msgspec-encodable value (Structs, dicts, dates)."""
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json")
