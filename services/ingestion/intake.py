"""From a request's body to acknowledged records: split, validate, write.

Lenient (Segment's way): bad events go to rondo.events.rejected.v1 and the answer is 200. Strict: all
or nothing, Problem 400 with a pointer for each bad event. Either way a body that is no JSON at all,
or over a limit, is refused whole.
"""

import msgspec

from rondo_common import ids, telemetry
from rondo_common.clock import Clock
from rondo_common.problems import Problem, invalid
from rondo_common.records import Event, Rejected
from rondo_common.topics import EVENTS, REJECTED
from services.ingestion.model import MAX_BATCH, MAX_EVENT, MAX_EVENTS, Arrival, Code, Message, Refused
from services.ingestion.sink import Sink, headers_of
from services.ingestion.times import instant, written
from services.ingestion.validation import encoded, look_through, sender_of, suspect, taken

MAX_SPREAD = 8 * 1024 * 1024
"""Bytes that a batch may grow to when its context is copied under every event."""
MAX_ERRORS = 100
"""Errors listed in one strict answer."""

EVENTS_TAKEN = telemetry.counter("rondo_ingest_events_total", "Events by what became of them", ("outcome",))
_ACCEPTED, _REJECTED, _UNWANTED = (EVENTS_TAKEN.labels(o) for o in ("accepted", "rejected", "not_for_rondo"))

_OBJECT = b"{"


class _Batch(msgspec.Struct):
    """The outer shape of a batch; everything else in it is left alone."""

    batch: list[msgspec.Raw]
    context: msgspec.Raw = None  # type: ignore[assignment]
    integrations: msgspec.Raw = None  # type: ignore[assignment]
    sentAt: msgspec.Raw = None  # type: ignore[assignment]


class _Key(msgspec.Struct):
    writeKey: str | None = None


_split = msgspec.json.Decoder(_Batch).decode
_any = msgspec.json.Decoder().decode
_key = msgspec.json.Decoder(_Key).decode
_encode = msgspec.json.Encoder().encode


def key_in(body: bytes) -> str | None:
    """The `writeKey` of a body, as browsers and the SDKs put it there; None when there is none."""
    try:
        return _key(body).writeKey
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def limit_of(call: str) -> int:
    """Bytes a body of this call may have after inflating."""
    return MAX_BATCH if call in ("batch", "import") else MAX_EVENT


class Intake:
    """What the Segment endpoints do once the key and the body are there."""

    def __init__(self, sink: Sink, clock: Clock, master_secret: str):
        self._sink = sink
        self._clock = clock
        self._secret = master_secret

    async def take(self, call: str, workspace: str, body: bytes, strict: bool = False, traceparent: str = "") -> None:
        """Take one request. Returns once Kafka has acknowledged everything that is kept; Problem 400
        or 413 when the body is refused, 503 when Kafka falls behind."""
        _readable(body)
        received = self._clock.now()
        arrival = Arrival(
            workspace,
            ids.workspace_secret(self._secret, workspace),
            received,
            written(received),
            historical=call == "import",
            suspect=suspect(body),
        )
        if call in ("batch", "import"):
            events, kind = _opened(body, arrival, strict), None
            base = "/batch/"
        else:
            events, kind, base = [body], call, ""
        await self.write(events, kind, base, arrival, strict, traceparent)

    async def write(
        self,
        events: list[msgspec.Raw] | list[bytes],
        kind: str | None,
        base: str,
        arrival: Arrival,
        strict: bool,
        traceparent: str,
        first: int = 0,
    ) -> tuple[int, list[tuple[int, Refused]]]:
        """Validate and write calls. Returns how many were kept and the refused ones with their position,
        counted from `first`. `base` is the pointer before the position, empty for a single call."""
        messages: list[Message] = []
        refused: list[tuple[int, Refused]] = []
        unwanted = 0
        prefix = arrival.workspace + ":"
        for i, raw in enumerate(events, first):
            try:
                event = taken(raw, kind, arrival)
            except Refused as e:
                if e.code is Code.NOT_JSON and not base:
                    raise _malformed(f"Not JSON: {e.detail}") from None
                refused.append((i, e))
                continue
            if event is None:
                unwanted += 1
                continue
            messages.append(message(event, prefix, traceparent))
        accepted = len(messages)
        if refused:
            if strict:
                _REJECTED.inc(len(refused))
                raise strict_problem(refused, base)
            messages += [
                rejection(events[i - first], e, f"{base}{i}{e.pointer}" if base else e.pointer, arrival, traceparent)
                for i, e in refused
            ]
        if messages:
            await self._sink.write(messages, arrival.received)
        if accepted:
            _ACCEPTED.inc(accepted)
        if refused:
            _REJECTED.inc(len(refused))
        if unwanted:
            _UNWANTED.inc(unwanted)
        return accepted, refused


def message(event: Event, prefix: str, traceparent: str) -> Message:
    """The record of an accepted event. `prefix` is "<workspace>:"."""
    return Message(
        EVENTS,
        (prefix + event.sender).encode(),
        encoded(event),
        headers_of("rondo.event." + event.type, event.message_id, event.received_at, traceparent, event.sender),
    )


def rejection(raw: msgspec.Raw | bytes, why: Refused, pointer: str, arrival: Arrival, traceparent: str = "") -> Message:
    """The record of a refused event, keyed by its sender when one can be seen."""
    sender, message_id = sender_of(raw, arrival.secret)
    record = Rejected(
        arrival.workspace,
        why.code.value,
        pointer,
        why.detail,
        arrival.received_at,
        bytes(raw)[:MAX_EVENT].decode("utf-8", "replace"),
        message_id,
    )
    headers = headers_of("rondo.event.rejected", message_id or "", arrival.received_at, traceparent, sender or "")
    return Message(REJECTED, f"{arrival.workspace}:{sender or 'unknown'}".encode(), _encode(record), headers)


def strict_problem(refused: list[tuple[int, Refused]], base: str) -> Problem:
    """400 that names each bad event of a strict request."""
    errors = [
        invalid(f"{base}{i}{e.pointer}" if base else e.pointer, e.code.value, e.detail) for i, e in refused[:MAX_ERRORS]
    ]
    return Problem(
        400, "events-refused", "Nothing was taken: some events are not valid", f"{len(refused)} not valid", errors
    )


def _readable(body: bytes) -> None:
    """Problem 400 unless the body is UTF-8 text with something in it."""
    try:
        if not body.decode("utf-8").strip():
            raise Problem(400, "malformed", "The request can't be read", "The body is empty; JSON is expected")
    except UnicodeDecodeError as e:
        raise Problem(400, "malformed", "The request can't be read", f"Not UTF-8: byte {e.start}") from None
    if body[:1] != _OBJECT:
        # whatever else it is, it is no call: say it now, also leniently
        _whole_object(body)


def _whole_object(body: bytes) -> None:
    try:
        value = _any(body)
    except RecursionError:
        raise _malformed("nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise _malformed(f"Not JSON: {e}") from None
    if type(value) is not dict:
        raise _malformed("A JSON object is expected")


def _malformed(detail: str, errors: list[dict[str, str]] | None = None) -> Problem:
    return Problem(400, "malformed", "The request can't be read", detail, errors)


def _opened(body: bytes, arrival: Arrival, strict: bool) -> list[msgspec.Raw]:
    """The events of a batch; what they share is put into `arrival`."""
    try:
        outer = _split(body)
    except RecursionError:
        raise _malformed("nested too deep") from None
    except msgspec.ValidationError as e:
        what = str(e).partition(" - at")[0]
        raise _malformed(what, [invalid("/batch", "required", "a list of events")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise _malformed(f"Not JSON: {e}") from None
    if len(outer.batch) > MAX_EVENTS:
        raise Problem(
            413,
            "too-large",
            "The request is too large",
            f"At most {MAX_EVENTS} events a batch",
            [invalid("/batch", "too_many_events", f"{len(outer.batch)} events")],
        )
    arrival.context = _shared(outer.context, "/context")
    arrival.integrations = _shared(outer.integrations, "/integrations")
    if arrival.context:
        arrival.shared_bytes = len(memoryview(outer.context))
        if arrival.shared_bytes * len(outer.batch) + len(body) > MAX_SPREAD:
            detail = f"The context under every event makes more than {MAX_SPREAD} bytes of it"
            raise Problem(413, "too-large", "The request is too large", detail)
    sent_at = _any(outer.sentAt) if outer.sentAt is not None else None
    if sent_at is not None:
        try:
            arrival.sent, arrival.sent_at = instant(sent_at, "/sentAt"), sent_at
        except Refused as e:
            # not worth an event: leniently there is just no skew to correct
            if strict:
                raise _malformed(e.detail, [invalid(e.pointer, e.code.value, e.detail)]) from None
    return outer.batch


def _shared(raw: msgspec.Raw | None, pointer: str) -> dict[str, object]:
    """A batch's own context or integrations."""
    if raw is None:
        return {}
    try:
        value = _any(raw)
        look_through(value)
    except Refused as e:
        raise _malformed(e.detail, [invalid(pointer + e.pointer, e.code.value, e.detail)]) from None
    except (msgspec.MsgspecError, RecursionError) as e:
        raise _malformed(f"{pointer[1:]}: {e}", [invalid(pointer, "not_json", str(e))]) from None
    if value is None:
        return {}
    if type(value) is not dict:
        raise _malformed(f"{pointer[1:]} is an object", [invalid(pointer, "wrong_type", "an object")])
    return value
