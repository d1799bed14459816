"""Finished spans to an OpenTelemetry collector. Imported by `tracing` only when spans are sent at all:
the library takes 0.3 s to load."""

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

_KEPT = TraceFlags(TraceFlags.SAMPLED)


class Collector:
    """An OTLP/HTTP collector at `endpoint` (http://host:4318). Spans wait in memory (at most 2,048; more
    are dropped) and leave once a second; a collector that is down costs spans, never time."""

    def __init__(self, service: str, instance: str, endpoint: str):
        self._resource = Resource.create(
            {"service.namespace": "rondo", "service.name": service, "service.instance.id": instance}
        )
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5)
        self._waiting = BatchSpanProcessor(exporter, schedule_delay_millis=1000)

    def add(
        self,
        name: str,
        kind: str,
        own: str,
        parent: str | None,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int | float | bool] | None,
        error: str,
    ) -> None:
        """One finished span; arguments as in `tracing.report`."""
        span = ReadableSpan(
            name,
            context=_context(own),
            parent=_context(parent, remote=True) if parent else None,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind[kind],
            status=Status(StatusCode.ERROR, error) if error else Status(),
            start_time=start_ns,
            end_time=end_ns,
        )
        self._waiting.on_end(span)

    def close(self) -> None:
        """Send what waits."""
        self._waiting.shutdown()


def _context(traceparent: str, remote: bool = False) -> SpanContext:
    return SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), remote, _KEPT)
