"""Where records go: the promise that handlers rely on, and the headers of a record.

`KafkaSink` (producer.py) keeps the promise for real; tests may use a list.
"""

from collections.abc import Sequence
from typing import Protocol

from services.ingestion.model import Message

SOURCE = b"/rondo/ingestion"

_FIXED: dict[str, tuple[tuple[str, bytes], ...]] = {}


class Sink(Protocol):
    """Takes records and says when they are safe."""

    async def write(self, messages: Sequence[Message], at: int) -> None:
        """Returns when every record is acknowledged by all in-sync replicas; `at` (ms) is their
        timestamp. Problem 503 with Retry-After when it can't be, or too much is under way already:
        then some of them may have been kept, repeating the same request is right."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether a write would be tried now, else why not."""
        ...


def headers_of(type: str, id: str, at: str, traceparent: str, subject: str = "") -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 headers (binary mode) and the trace. `at` is the RFC 3339 time of the record."""
    fixed = _FIXED.get(type)
    if fixed is None:
        fixed = _FIXED[type] = (
            ("ce_specversion", b"1.0"),
            ("ce_source", SOURCE),
            ("content-type", b"application/json"),
            ("ce_type", type.encode()),
        )
    made = [*fixed, ("ce_id", id.encode()), ("ce_time", at.encode())]
    if subject:
        made.append(("ce_subject", subject.encode()))
    if traceparent:
        made.append(("traceparent", traceparent.encode()))
    return made
