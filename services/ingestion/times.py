"""Which instant an event is given: skew correction, clamp and range. Pure; ms since 1970.

Segment's rule: timestamp = receivedAt - (sentAt - originalTimestamp). The device's clock may be
wrong, but the time between the call and its sending is right. Without sentAt the time is taken as
it is. WIRE 2: more than five minutes after receipt becomes the receipt.

Old times are fine: anything from 1900 on (what the warehouse can hold) is taken as it is.
"""

from functools import lru_cache

from rondo_common.clock import from_iso, iso
from services.ingestion.model import Code, Refused

FUTURE_MS = 5 * 60_000
EARLIEST = from_iso("1900-01-01T00:00:00Z")


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return iso(seconds * 1000)[:-1]


def written(ms: int) -> str:
    """`clock.iso`, quick for many times near each other."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z" if rest else f"{_second(seconds)}Z"


def instant(value: object, pointer: str) -> int:
    """The ms of an RFC 3339 text with a zone; Refused otherwise."""
    if type(value) is not str:
        raise Refused(Code.UNREADABLE_TIME, pointer, "a time is an RFC 3339 text such as 2026-11-20T10:00:00Z")
    try:
        return from_iso(value)
    except (ValueError, OverflowError):
        pass
    try:
        from_iso(value + "Z")
    except (ValueError, OverflowError):
        raise Refused(Code.UNREADABLE_TIME, pointer, "not an RFC 3339 time") from None
    raise Refused(Code.NAIVE_TIME, pointer, "a time needs a zone: add Z or an offset such as +02:00")


def settled(original: int | None, sent: int | None, received: int) -> int:
    """The event's own instant. Refused (without pointer) when it lies before 1900."""
    if original is None:
        return received
    at = original if sent is None else received - (sent - original)
    if at > received + FUTURE_MS:
        return received
    if at < EARLIEST:
        raise Refused(Code.TIME_RANGE, "/timestamp", "times before 1900 are not kept")
    return at
