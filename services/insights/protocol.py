"""ClickHouse's HTTP interface over the embedded engine: enough for the official clients, curl and Grafana.

The statement stands in `query` (then the body is an INSERT's data) or is the body. Settings given as
URL parameters are applied; `default_format` is honoured. Read and write, so it binds to loopback or an
inner network only.
"""

import asyncio
import re

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.insights.engine import Engine, QueryFailed

_OWN = frozenset(
    {"query", "database", "default_format", "session_id", "session_timeout", "session_check", "query_id", "user",
     "password", "compress", "decompress", "wait_end_of_query", "client_protocol_version", "role", "buffer_size",
     "send_progress_in_http_headers", "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close",
     "enable_http_compression", "http_zlib_compression_level", "http_write_exception_in_output_format",
     "wait_for_async_insert"}
)  # fmt: skip
_MOST_FIELD = 16 * 1024 * 1024
_NAME = re.compile(r"[a-z_0-9]+")
_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(rb"\s*INSERT\s[^\n]*?\bFORMAT\s+\w+", re.IGNORECASE)


def _split(body: bytes) -> tuple[str, bytes]:
    """(statement, data) of a body that holds both, as clients send an INSERT."""
    found = _INSERT.match(body)
    return (found[0].decode(), body[found.end() :].lstrip(b"\n")) if found else (body.decode(), b"")


def _with_settings(statement: str, request: Request) -> str:
    settings = []
    for name, value in request.query_params.items():
        if name in _OWN or name.startswith("param_") or not _NAME.fullmatch(name):
            continue
        quoted = (
            value
            if re.fullmatch(r"-?\d+(\.\d+)?", value)
            else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        )
        settings.append(f"{name} = {quoted}")
    if not settings or not re.match(r"\s*(SELECT|WITH|INSERT)\b", statement, re.IGNORECASE):
        return statement
    clause = " SETTINGS " + ", ".join(settings)
    if re.match(r"\s*INSERT\b", statement, re.IGNORECASE):
        return (
            _FORMAT.sub(lambda m: clause + " " + m[0], statement) if _FORMAT.search(statement) else statement + clause
        )
    found = _FORMAT.search(statement)
    return statement[: found.start()] + clause + " " + found[0] if found else statement + clause


async def _read(request: Request) -> tuple[str, bytes, dict[str, str]]:
    """(statement, data, parameters). The official client sends many or long parameters as a form, with the
    statement as its field `query`."""
    fields = dict(request.query_params)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=0, max_fields=10_000, max_part_size=_MOST_FIELD) as form:
            fields |= {name: value for name, value in form.items() if isinstance(value, str)}
        body = b""
    else:
        body = await request.body()
    statement = fields.get("query", "")
    if not statement:
        statement, body = _split(body)
    return statement, body, {k.removeprefix("param_"): v for k, v in fields.items() if k.startswith("param_")}


def routes(engine: Engine) -> list[Route]:
    async def run(request: Request) -> Response:
        statement, body, parameters = await _read(request)
        if not statement.strip():
            return PlainTextResponse("Ok.\n")
        statement = _with_settings(statement, request)
        format_ = (
            request.query_params.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated"
        )
        try:
            answer = await asyncio.to_thread(engine.run, statement, body, format_, parameters)
        except QueryFailed as e:
            code = re.search(r"Code: (\d+)", str(e))
            headers = {"X-ClickHouse-Exception-Code": code[1] if code else "1000"}
            return PlainTextResponse(f"{e}\n", 404 if code and code[1] in ("60", "81") else 400, headers)
        headers = {
            "X-ClickHouse-Server-Display-Name": "rondo-insights",
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": "{}",
        }
        return Response(answer, headers=headers, media_type="application/octet-stream")

    async def ping(_: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    return [Route("/", run, methods=["GET", "POST"]), Route("/ping", ping, methods=["GET"])]
