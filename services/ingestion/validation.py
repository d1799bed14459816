"""Which events are taken, and in what form. Pure: one call's bytes in, one Event (or Refused) out.

Everything that is taken has been decoded whole, so no later reader meets bytes it can't read; it is
written anew, so what is on the log has no repeated keys (the last one counted) and no odd spacing.

Ids may be text or whole numbers; a number counts as its decimal text, as Segment's SDKs make of it.
An empty or blank id counts as absent.
"""

import uuid
from functools import lru_cache
from typing import Any

import msgspec

from rondo_common import ids
from rondo_common.records import Event
from services.ingestion.merging import merged, wanted
from services.ingestion.model import MAX_DEPTH, MAX_EVENT, MAX_ID, MAX_NAME, TYPES, Arrival, Code, Refused
from services.ingestion.times import instant, settled, written


class _Call(msgspec.Struct, gc=False):
    """What is read of a call; anything else in it is not kept. Types are looked at one by one, for
    refusals with pointers."""

    type: Any = None
    userId: Any = None
    anonymousId: Any = None
    previousId: Any = None
    groupId: Any = None
    messageId: Any = None
    event: Any = None
    name: Any = None
    category: Any = None
    timestamp: Any = None
    originalTimestamp: Any = None
    sentAt: Any = None
    context: Any = None
    integrations: Any = None
    properties: Any = None
    traits: Any = None


_decode = msgspec.json.Decoder().decode
_decode_call = msgspec.json.Decoder(_Call).decode
_MAX_INT = 2**64 - 1
_MIN_INT = -(10**19) + 1

sender_id = lru_cache(maxsize=20_000)(ids.identifier_id)
"""`ids.identifier_id`, remembered for senders that are busy now."""


def taken(raw: bytes | msgspec.Raw, kind: str | None, arrival: Arrival) -> Event | None:
    """The Event of one call, None when the caller does not want Rondo to have it, or Refused.

    `kind` is the endpoint's type; None inside a batch, where each event names its own.
    """
    if len(memoryview(raw)) + arrival.shared_bytes > MAX_EVENT:
        raise Refused(Code.TOO_LARGE, "", f"an event has at most {MAX_EVENT} bytes, its batch's context included")
    call = _decoded(raw, arrival.suspect)
    kind = kind or _kind(call.type)

    user_id = _id(call.userId, "/userId")
    anonymous_id = _id(call.anonymousId, "/anonymousId")
    if user_id is not None:
        sender = sender_id(arrival.secret, "user_id", user_id)
    elif anonymous_id is not None:
        sender = sender_id(arrival.secret, "anonymous_id", anonymous_id)
    else:
        raise Refused(Code.REQUIRED, "/userId", "userId or anonymousId is needed")

    context = _object(call.context, "/context")
    historical = arrival.historical
    if arrival.context:
        context = merged(arrival.context, context or {})
    if context and (marked := context.get("historical")) is not None:
        if type(marked) is not bool:
            raise Refused(Code.WRONG_TYPE, "/context/historical", "true or false")
        historical = historical or marked
    integrations = _object(call.integrations, "/integrations")
    if arrival.integrations:
        integrations = merged(arrival.integrations, integrations or {})
    if integrations and not wanted(integrations):
        return None

    original, original_text = None, call.timestamp
    if original_text is None:
        original_text = call.originalTimestamp
        pointer = "/originalTimestamp"
    else:
        pointer = "/timestamp"
    if original_text is not None:
        original = instant(original_text, pointer)
    sent, sent_at = arrival.sent, arrival.sent_at
    if (own := call.sentAt) is not None:
        sent, sent_at = instant(own, "/sentAt"), own
    at = settled(original, sent, arrival.received)

    properties = _object(call.properties, "/properties")
    traits = _object(call.traits, "/traits")
    name = previous_id = group_id = None
    if kind == "track":
        name = _name(call.event, "/event", required=True)
        traits = None
    elif kind == "page" or kind == "screen":
        name = _name(call.name, "/name")
        category = _name(call.category, "/category")
        if category is not None:
            properties = {"category": category, **(properties or {})}
        traits = None
    else:
        properties = None
        if kind == "alias":
            traits = None
            previous_id = _needed(_id(call.previousId, "/previousId"), "/previousId")
            _needed(user_id, "/userId")
        elif kind == "group":
            group_id = _needed(_id(call.groupId, "/groupId"), "/groupId")

    return Event(
        arrival.workspace,
        kind,
        _id(call.messageId, "/messageId") or str(uuid.uuid4()),
        sender,
        original_text if at == original and _canonical(original_text) else written(at),
        arrival.received_at,
        user_id,
        anonymous_id,
        previous_id,
        group_id,
        name,
        properties or None,  # type: ignore[arg-type]  # encoded as the object it is
        traits or None,  # type: ignore[arg-type]
        context or None,  # type: ignore[arg-type]
        original_text,
        sent_at,
        historical,
    )


encoded = msgspec.json.Encoder().encode
"""The record's bytes."""

_DIGITS = bytes(0x30 if 0x30 <= b <= 0x39 else b for b in range(256))


def suspect(body: bytes) -> bool:
    """Whether a body may hold an escaped NUL or a whole number beyond 64 bits (20 digits in a row), so
    that each of its events must be looked through."""
    return b"\\u0000" in body or b"0" * 20 in body.translate(_DIGITS)


def sender_of(raw: bytes | msgspec.Raw, secret: bytes) -> tuple[str | None, str | None]:
    """(sender id, message id) of a refused event as far as they can be seen, for its key."""
    try:
        call = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None, None
    if type(call) is not dict:
        return None, None
    message_id = call.get("messageId")
    for kind, field in (("user_id", "userId"), ("anonymous_id", "anonymousId")):
        value = call.get(field)
        if type(value) in (str, int) and value != "":
            return ids.identifier_id(secret, kind, str(value)), message_id if type(message_id) is str else None
    return None, message_id if type(message_id) is str else None


def _decoded(raw: bytes | msgspec.Raw, suspect: bool) -> _Call:
    try:
        call = _decode_call(raw)
        data = bytes(raw)
        if (suspect or data.count(b"{") + data.count(b"[") > MAX_DEPTH) and not _clean(whole := _decode(raw)):
            look_through(whole)
    except RecursionError:
        raise Refused(Code.TOO_DEEP, "", f"at most {MAX_DEPTH} levels of nesting") from None
    except msgspec.ValidationError as e:
        if bytes(raw).lstrip()[:1] != b"{":
            raise Refused(Code.NOT_AN_OBJECT, "", "an event is a JSON object") from None
        raise Refused(Code.NUMBER, "", str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as e:
        raise Refused(Code.NOT_JSON, "", str(e)) from None
    return call


def _clean(value: Any) -> bool:
    """Whether `look_through` has nothing to say; quicker, as it keeps no pointers."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                for key in item:
                    if "\0" in key:
                        return False
                item = item.values()
            for v in item:
                kind = type(v)
                if kind is str:
                    if "\0" in v:
                        return False
                elif kind is dict or kind is list:
                    below.append(v)
                elif kind is int and not _MIN_INT <= v <= _MAX_INT:
                    return False
        if not below:
            return True
        level = below
    return False


def look_through(value: Any) -> None:
    """Refused when `value` is nested deeper than MAX_DEPTH or holds a NUL character or a whole number
    beyond 64 bits anywhere."""
    level = [("", value)]
    depth = 0
    while level:
        depth += 1
        below: list[tuple[str, Any]] = []
        for pointer, item in level:
            if type(item) is str:
                if "\0" in item:
                    raise Refused(Code.NUL, pointer, "the NUL character is not kept")
            elif type(item) is int:
                if not _MIN_INT <= item <= _MAX_INT:
                    raise Refused(Code.NUMBER, pointer, "whole numbers have at most 64 bits")
            elif type(item) is dict:
                if depth > MAX_DEPTH:
                    raise Refused(Code.TOO_DEEP, "", f"at most {MAX_DEPTH} levels of nesting")
                for key, v in item.items():
                    if "\0" in key:
                        raise Refused(Code.NUL, pointer, "the NUL character is not kept")
                    below.append((f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", v))
            elif type(item) is list:
                if depth > MAX_DEPTH:
                    raise Refused(Code.TOO_DEEP, "", f"at most {MAX_DEPTH} levels of nesting")
                below.extend((f"{pointer}/{i}", v) for i, v in enumerate(item))
        level = below


def _kind(value: Any) -> str:
    if value is None:
        raise Refused(Code.REQUIRED, "/type", "one of " + ", ".join(sorted(TYPES)))
    if type(value) is not str or value not in TYPES:
        raise Refused(Code.UNKNOWN_TYPE, "/type", "one of " + ", ".join(sorted(TYPES)))
    return value


def _id(value: Any, pointer: str) -> str | None:
    if type(value) is not str:
        if value is None:
            return None
        if type(value) is not int:
            raise Refused(Code.WRONG_TYPE, pointer, "text or a whole number")
        value = str(value)
    if len(value) > MAX_ID:
        raise Refused(Code.TOO_LONG, pointer, f"at most {MAX_ID} characters")
    return value if value and not value.isspace() else None


def _needed(value: str | None, pointer: str) -> str:
    if value is None:
        raise Refused(Code.REQUIRED, pointer, "a value is needed")
    return value


def _name(value: Any, pointer: str, required: bool = False) -> str | None:
    if value is None or (type(value) is str and not value.strip()):
        if required:
            raise Refused(Code.REQUIRED, pointer, "a name is needed")
        return None
    if type(value) is not str:
        raise Refused(Code.WRONG_TYPE, pointer, "text")
    if len(value) > MAX_NAME:
        raise Refused(Code.TOO_LONG, pointer, f"at most {MAX_NAME} characters")
    return value


def _object(value: Any, pointer: str) -> dict[str, Any] | None:
    if value is None or type(value) is dict:
        return value
    raise Refused(Code.WRONG_TYPE, pointer, "an object")


def _canonical(text: str) -> bool:
    """Whether `text` is already as this system writes that instant, or can stand as it is: whole
    seconds or three digits of them, in UTC."""
    whole = len(text) == 20
    if not whole and (len(text) != 24 or text[19] != "." or text[20:23] == "000"):
        return False
    return text[-1] == "Z" and text[7] == "-" and text[10] == "T" and text[13] == ":" and text[16] == ":"
