"""One source of time for all services, and the one way times are written.

Inside, an instant is an int: milliseconds since 1970 in UTC. On the wire it is RFC 3339 in UTC.
The clock is the system's, or, under `rondo up --test-clock`, a number in a small shared file
(RONDO_CLOCK_FILE) that only moves when somebody writes it. The file is mapped into memory, so
reading the time costs nothing.
"""

import mmap
import os
import struct
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Clock:
    """The time source. `now()` is in ms; `frozen` says whether it only moves when told."""

    def __init__(self, file: str | None = None):
        self._map = None
        if file:
            with open(file, "r+b") as f:
                self._map = mmap.mmap(f.fileno(), 8)

    @property
    def frozen(self) -> bool:
        return self._map is not None

    def now(self) -> int:
        """The present instant in ms since 1970."""
        if self._map is None:
            return time.time_ns() // 1_000_000
        return struct.unpack("<q", self._map[:8])[0]

    def advance(self, to: int) -> None:
        """Move a test clock forward to `to` (ms). ValueError when backwards or not a test clock."""
        if self._map is None:
            raise ValueError("only a test clock can be moved: start with `rondo up --test-clock`")
        if to < self.now():
            raise ValueError("a test clock never goes backwards")
        self._map[:8] = struct.pack("<q", to)


def create_clock_file(path: str, at: int) -> None:
    """Write the file behind a test clock, frozen at `at` (ms)."""
    with open(path, "wb") as f:
        f.write(struct.pack("<q", at))


def system_clock() -> Clock:
    """The clock this process is configured with: RONDO_CLOCK_FILE's, else the system's."""
    return Clock(os.environ.get("RONDO_CLOCK_FILE") or None)


def iso(ms: int) -> str:
    """RFC 3339 in UTC with ms; whole seconds are written without a fraction."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z" if rest else f"{_second(seconds)}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def from_iso(text: str) -> int:
    """Milliseconds of an RFC 3339 instant. ValueError when it has no zone or can't be read."""
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, TypeError) as e:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from e
    if at.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}; add Z or an offset such as +02:00")
    return (at - _EPOCH) // _MS
