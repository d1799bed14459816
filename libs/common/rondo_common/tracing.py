"""Traces: spans of requests, gRPC calls, stream records and provider calls, sent by OTLP.

Off unless RONDO_OTLP_ENDPOINT is set; off costs nothing. The trace travels as W3C `traceparent`
(HTTP header, gRPC metadata, Kafka header), so one event can be followed from the HTTP call to the
provider's answer. Whether a trace is kept follows from its id and RONDO_TRACE_RATIO alone: all
services come to the same answer. Spans carry names of topics, routes and outcomes, never a member.

    with tracing.span("POST /v1/track", tracing.SERVER, parent=header) as own: ...   # own: traceparent inside
    tracing.report("profiles rondo.events.v1", tracing.CONSUMER, own, parent, start_ns, end_ns, {...})

Names of attributes: OpenTelemetry's semantic conventions for HTTP, RPC and messaging.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rondo_common.otlp import Collector

SERVER, CLIENT, CONSUMER = "SERVER", "CLIENT", "CONSUMER"
"""What a span is to its parent, as OpenTelemetry names it."""

Attributes = Mapping[str, str | int | float | bool]

_bits = random.Random().getrandbits
"""Ids of spans only: nothing rests on nobody guessing them."""

_collector: "Collector | None" = None
_below = 0


def configure(service: str, instance: str, endpoint: str, ratio: float = 1.0) -> None:
    """Send spans of this process to an OTLP/HTTP collector (`http://host:4318`); "" leaves tracing off.
    `ratio` of all traces is kept, 0 to 1."""
    global _collector, _below
    close()
    if endpoint:
        from rondo_common.otlp import Collector

        _collector, _below = Collector(service, instance, endpoint), round(ratio * 2**32)


def close() -> None:
    """Send what is left and stop."""
    global _collector
    was, _collector = _collector, None
    if was is not None:
        was.close()


def on() -> bool:
    """Whether spans are sent at all."""
    return _collector is not None


def kept(traceparent: str | None) -> bool:
    """Whether spans of this trace are sent: it asks for it (flag 01) and its id falls under the ratio."""
    if _collector is None or not traceparent or len(traceparent) < 55 or traceparent[-2:] == "00":
        return False
    try:
        return int(traceparent[27:35], 16) < _below
    except ValueError:
        return False


def child(traceparent: str, span_id: str = "") -> str:
    """The traceparent of a span below: the same trace, `span_id` (16 hex digits) or a new one."""
    return f"{traceparent[:36]}{span_id or f'{_bits(64):016x}'}{traceparent[52:]}"


def report(
    name: str,
    kind: str,
    own: str,
    parent: str | None,
    start_ns: int,
    end_ns: int,
    attributes: Attributes | None = None,
    error: str = "",
) -> None:
    """Send one finished span. `own` and `parent` are traceparents, times are nanoseconds since 1970, an
    end of 0 is now. Does nothing for a trace that isn't kept; never waits."""
    if _collector is not None and kept(own):
        _collector.add(name, kind, own, parent, start_ns, end_ns or time.time_ns(), attributes, error)


@contextmanager
def span(name: str, kind: str, parent: str | None, attributes: Attributes | None = None) -> Iterator[str | None]:
    """A span around a block, below `parent`. Gives its traceparent, or `parent` when it isn't kept.
    A block that raises makes an error of it, named by the exception's type only."""
    if not kept(parent):
        yield parent
        return
    assert parent
    own, start, error = child(parent), time.time_ns(), ""
    try:
        yield own
    except BaseException as e:
        error = type(e).__name__
        raise
    finally:
        report(name, kind, own, parent, start, 0, attributes, error)


def request(method: str, route: str, status: int, own: str, parent: str | None, start_ns: int) -> None:
    """The finished span of an HTTP request. `route` is the pattern, never the path."""
    attributes: Attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    error = str(status) if status >= 500 else ""
    report(f"{method} {route}", SERVER, own, parent, start_ns, 0, attributes, error)
