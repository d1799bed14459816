"""What a record says to the auditor: rows for the ledger. Pure; knows the wire, not the services' code."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from rondo_common import topics

LOUD = ("track", "page", "screen", "group")
"""Calls of which each gives exactly one member event of its own kind. identify and alias may change nothing
and then show only as a mark among the message ids seen."""
ENDED = ("accepted", "rejected", "unknown", "returned", "cancelled")
"""Statuses with which delivery itself answers a send."""
SLOTS = 4


class Place(NamedTuple):
    """Where a record lies, and its time (ms)."""

    topic: str
    partition: int
    offset: int
    time: int


class Row(NamedTuple):
    """One row: its table and values, the place last."""

    table: str
    values: tuple[Any, ...]


class _Event(msgspec.Struct):
    workspace: str
    type: str
    message_id: str
    sender: str


class _Rejected(msgspec.Struct):
    workspace: str
    message_id: str | None = None


class _Inner(msgspec.Struct):
    message_id: str


class _Routed(msgspec.Struct):
    kind: str
    workspace: str
    event: _Inner | None = None


class _MemberEvent(msgspec.Struct):
    workspace: str
    kind: str
    id: str
    event_id: str | None = None


class _Touch(msgspec.Struct):
    workspace: str
    touch_id: str
    kind: str = "touch"


class _Decision(msgspec.Struct):
    workspace: str
    decision_id: str
    touch_id: str
    attempt: int
    verdict: str


class _Send(msgspec.Struct):
    workspace: str
    touch_id: str
    attempt: int


class _Delivery(msgspec.Struct):
    workspace: str
    id: str
    touch_id: str
    status: str
    attempt: int = 1


def _event(e: _Event) -> Iterator[tuple[str, tuple[Any, ...]]]:
    mark = digest(e.message_id)
    key = f"d:{e.workspace}:{e.sender}:{mark[7] % SLOTS}"
    yield "event", (e.workspace, e.sender, e.message_id, e.type, key, mark)


def _routed(r: _Routed) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if r.kind == "event" and r.event is not None:
        yield "routed", (r.workspace, r.event.message_id)


def _member_event(m: _MemberEvent) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "effect", (m.workspace, m.event_id, m.kind, m.id)


def _touch(t: _Touch) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if t.kind == "touch":
        yield "touch", (t.workspace, t.touch_id)


def _delivery(d: _Delivery) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if d.status in ENDED:
        yield "delivery", (d.workspace, d.touch_id, d.attempt, d.status, d.id)


_READERS: dict[str, tuple[type, Callable[[Any], Iterator[tuple[str, tuple[Any, ...]]]]]] = {
    topics.EVENTS: (_Event, _event),
    topics.REJECTED: (_Rejected, lambda r: iter([("rejected", (r.workspace, r.message_id))])),
    topics.ROUTED: (_Routed, _routed),
    topics.MEMBER_EVENTS: (_MemberEvent, _member_event),
    topics.DECISIONS: (
        _Decision,
        lambda d: iter([("decision", (d.workspace, d.touch_id, d.attempt, d.verdict, d.decision_id))]),
    ),
    topics.DELIVERIES: (_Delivery, _delivery),
    **{topics.touches(lane): (_Touch, _touch) for lane in topics.LANES},
    **{
        topics.sends(channel, lane): (_Send, lambda s: iter([("send", (s.workspace, s.touch_id, s.attempt))]))
        for channel in topics.CHANNELS
        for lane in topics.LANES
    },
}
_DECODERS = {name: msgspec.json.Decoder(kind).decode for name, (kind, _) in _READERS.items()}
TOPICS = frozenset(_READERS)
"""Topics a range is read of; their dead-letter topics too."""


def rows(place: Place, headers: dict[str, bytes], value: bytes | None) -> Iterator[Row]:
    """The rows of one record. What can't be read gives a row `unreadable`."""
    if place.topic.endswith(".dlq"):
        yield from _dead(place, headers)
        return
    if value is None:
        return
    try:
        message = _DECODERS[place.topic](value)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        yield Row("unreadable", (str(e)[:200], *place))
        return
    for table, values in _READERS[place.topic][1](message):
        yield Row(table, (*values, *place))


def _dead(place: Place, headers: dict[str, bytes]) -> Iterator[Row]:
    """A dead letter names the record it is about; those of timers and answers name none."""
    try:
        partition, offset = int(headers["rondo-dlq-partition"]), int(headers["rondo-dlq-offset"])
    except (KeyError, ValueError):
        return
    topic = headers.get("rondo-dlq-topic", b"").decode(errors="replace")
    reason = headers.get("rondo-dlq-reason", b"").decode(errors="replace")
    yield Row("dead", (topic, partition, offset, reason, *place))


def digest(message_id: str) -> bytes:
    """8 bytes by which profiles remembers a message id."""
    return hashlib.blake2b(message_id.encode(), digest_size=8).digest()


def marked(state: bytes, mark: bytes) -> int | None:
    """When (s) a message id came that a state of message ids seen ([hashes, times], base64) holds; None when it
    does not hold it."""
    try:
        hashes, times = (base64.b64decode(part) for part in msgspec.json.decode(state))
    except (msgspec.DecodeError, binascii.Error, ValueError, TypeError):
        return None
    at = hashes.find(mark)
    while at >= 0 and at % 8:
        at = hashes.find(mark, at + 1)
    return int.from_bytes(times[at // 2 : at // 2 + 4], "big") if at >= 0 else None
