"""The words of the door: calls, limits, what is refused and why."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

KB = 1024
MAX_EVENT = 32 * KB
"""Bytes of one event as sent (Segment's limit); also of one event with its batch's context under it."""
MAX_BATCH = 500 * KB
"""Bytes of a batch after inflating (Segment's limit)."""
MAX_EVENTS = 2500
"""Events of a batch (Segment's limit)."""
MAX_DEPTH = 20
"""Nested objects and arrays of an event, the event itself counted."""
MAX_ID = 512
"""Characters of userId, anonymousId, previousId, groupId and messageId."""
MAX_NAME = 512
"""Characters of an event's, page's or screen's name."""

TYPES = frozenset({"identify", "track", "page", "screen", "group", "alias"})


class Code(StrEnum):
    """Why an event was refused: `code` on rondo.events.rejected.v1 and in strict answers."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    REQUIRED = "required"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_TYPE = "unknown_type"
    TOO_LONG = "too_long"
    TOO_LARGE = "event_too_large"
    TOO_DEEP = "too_deep"
    NUL = "nul_character"
    NUMBER = "number_out_of_range"
    NAIVE_TIME = "naive_timestamp"
    UNREADABLE_TIME = "unreadable_timestamp"
    TIME_RANGE = "timestamp_out_of_range"


class Refused(Exception):
    """An event that is not taken: what, where in it (a JSON pointer), and in words."""

    def __init__(self, code: Code, pointer: str, detail: str):
        super().__init__(f"{pointer}: {code}: {detail}")
        self.code = code
        self.pointer = pointer
        self.detail = detail


@dataclass(slots=True)
class Arrival:
    """What all events of one request share. Instants are ms since 1970."""

    workspace: str
    secret: bytes
    received: int
    received_at: str
    sent: int | None = None
    sent_at: str | None = None
    historical: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    integrations: dict[str, Any] = field(default_factory=dict)
    shared_bytes: int = 0
    """Bytes that `context` adds to every event."""
    suspect: bool = False
    """Whether each event must be looked through (validation.suspect)."""


class Message(msgspec.Struct, gc=False):
    """One record for Kafka. `headers` as librdkafka takes them. (A Struct is made in a third of a
    NamedTuple's time, and the garbage collector need not look at it.)"""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
