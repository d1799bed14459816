"""Logs and metrics, the same in every process.

Logs are JSON lines on stdout without personal data: values under names such as email, phone or
traits are left out, and addresses inside other text are masked. Ids made by HMAC are fine to log.

    from rondo_common import telemetry
    telemetry.configure(settings.service, settings.log_level)
    log = telemetry.logger(__name__)
    log.info("run started", run_id=run_id, members=1000)

    SENT = telemetry.counter("rondo_sends_total", "Provider calls by outcome", ("channel", "outcome"))
    SENT.labels("email", "sent").inc()

Metrics never carry member ids, addresses or other unbounded values as labels.
"""

import logging
import re
import sys
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rondo_common.lean import without

with without("rich", "better_exceptions"):
    import structlog

REGISTRY = CollectorRegistry()
"""The registry behind every /metrics; the process and platform collectors are in it."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds; what a histogram of durations uses unless it says otherwise."""

PERSONAL = frozenset(
    {"email", "phone", "to", "address", "recipient", "chat_id", "telegram_chat_id", "ip"}
    | {"name", "first_name", "last_name", "firstName", "lastName"}
    | {"user_id", "userId", "anonymous_id", "anonymousId"}
    | {"traits", "properties", "value", "text", "html", "body", "subject"}
)
"""Field names whose values never reach a log."""

_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"(?<![\w.:-])\+\d{7,15}(?!\w)")

_LINES_KEPT = 200
_trace: ContextVar[str] = ContextVar("rondo_traceparent", default="")
_HEX = frozenset("0123456789abcdef-")

_M = TypeVar("_M", Counter, Gauge, Histogram)
_metrics: dict[str, Any] = {}


def masked(text: str) -> str:
    """`text` with e-mail addresses and phone numbers replaced."""
    if "@" in text:
        text = _EMAIL.sub("[email]", text)
    return _PHONE.sub("[phone]", text) if "+" in text else text


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key in PERSONAL:
            event[key] = "[left out]"
        elif isinstance(value, str):
            event[key] = masked(value)
    return event


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if trace := trace_id():
        event.setdefault("trace_id", trace)
    return event


class _Stdout(logging.StreamHandler[Any]):
    """Writes to what sys.stdout is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stdout


class _Careful:
    """sys.stdout as it is at that moment. A line that can't be written (the disk is full) must not end the thread
    that says it; it is kept and comes out before a later one."""

    def __init__(self) -> None:
        self._late: deque[str] = deque(maxlen=_LINES_KEPT)

    def write(self, text: str) -> None:
        self._late.append(text)
        with suppress(OSError):
            while self._late:
                sys.stdout.write(self._late[0])
                sys.stdout.flush()
                self._late.popleft()

    def flush(self) -> None:
        """Done already."""


def configure(service: str, level: str = "info") -> None:
    """Set up logging of this process. Libraries' own logging goes the same way from warning on."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Careful())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = _Stdout()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, lambda _l, _m, e: {**e, "service": service}],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("rondo").setLevel(number)


def logger(name: str) -> Any:
    """A structlog logger; `name` is on every line as `module`."""
    return structlog.get_logger(module=name)


def _metric(kind: type[_M], name: str, text: str, labels: Sequence[str], **options: Any) -> _M:
    made = _metrics.get(name)
    if made is None:
        made = _metrics[name] = kind(name, text, tuple(labels), registry=REGISTRY, **options)
    elif not isinstance(made, kind) or made._labelnames != tuple(labels):
        raise ValueError(f"metric {name} was made before as something else")
    return made


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """The counter `name`, made once per process; by convention names end in `_total`."""
    return _metric(Counter, name, text, labels)


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    """The gauge `name`, made once per process."""
    return _metric(Gauge, name, text, labels)


def histogram(
    name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """The histogram `name` (by convention of seconds, `_seconds`), made once per process."""
    return _metric(Histogram, name, text, labels, buckets=tuple(buckets))


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """`histogram.observe` for several values: each bucket's lock is taken once."""
    bounds = histogram._upper_bounds
    counts: dict[int, int] = {}
    for value in values:
        at = bisect_left(bounds, value)
        counts[at] = counts.get(at, 0) + 1
    for at, n in counts.items():
        histogram._buckets[at].inc(n)
    histogram._sum.inc(sum(values))


def exposition(names: Sequence[str] = ()) -> tuple[bytes, str]:
    """The named metrics, all without names, in Prometheus text form, and their content type."""
    registry = REGISTRY.restricted_registry(names) if names else REGISTRY
    return generate_latest(registry), CONTENT_TYPE_LATEST


def trace_id() -> str:
    """The current trace id (32 hex digits), empty outside of a request."""
    return _trace.get()[3:35]


def start_trace(traceparent: str | None = None) -> str:
    """Continue the W3C trace of `traceparent`, or begin one; returns the trace id."""
    text = traceparent or ""
    parts = text.split("-")
    good = len(parts) >= 4 and [len(p) for p in parts[:4]] == [2, 32, 16, 2]
    if not (good and _HEX.issuperset(text[:55]) and text[3:35].strip("0")):
        text = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
    _trace.set(text[:55])
    return text[3:35]


def enter_span(own: str) -> None:
    """From here on what this process sends on belongs below the span of this traceparent."""
    _trace.set(own)


def traceparent() -> str:
    """The traceparent for what this process sends on, in the current trace."""
    return _trace.get() or f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
