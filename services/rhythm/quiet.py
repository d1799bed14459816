"""Quiet hours: windows of wall time, exact in every zone. Pure.

An instant is quiet when the clock on the member's wall, at that instant, shows a time inside a
window. So a day with a change of clocks needs no special rule: a window that ends at a wall time
the clocks jump over ends at the jump, and a wall time that comes twice is judged the same twice.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAYS = ("mo", "tu", "we", "th", "fr", "sa", "su")
DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_HORIZON_DAYS = 10
"""Windows repeat weekly: what does not change within this many days never does."""


class Window(NamedTuple):
    """[start, end) in minutes after midnight, on these days of the week (0 is Monday). An end at or
    before the start lies on the next day."""

    days: frozenset[int]
    start: int
    end: int


def minutes(text: str) -> int:
    """Minutes after midnight of HH:MM, 24:00 included. ValueError for anything else."""
    hours, colon, rest = text.partition(":")
    if not (colon and len(hours) == 2 and len(rest) == 2 and text.isascii() and (hours + rest).isdigit()):
        raise ValueError(f"not a time of day as HH:MM: {text!r}")
    total = int(hours) * 60 + int(rest)
    if int(rest) > 59 or total > 1440:
        raise ValueError(f"not a time of day as HH:MM: {text!r}")
    return total


def wall(t: int, zone: str) -> datetime:
    """What the clock on the wall shows at `t` (ms) in `zone`."""
    return (_EPOCH + timedelta(milliseconds=t)).astimezone(ZoneInfo(zone))


class Windows:
    """The windows of one policy, or of one member. Remembers the stretch it looked at last in each
    zone, as a broadcast asks for few zones and one instant."""

    def __init__(self, windows: tuple[Window, ...]):
        self.windows = windows
        self._spans: dict[str, tuple[int, int | None, bool]] = {}

    def quiet_on(self, shown: datetime) -> bool:
        """Whether the wall time `shown` lies in a window."""
        at = shown.hour * 60 + shown.minute
        day = shown.weekday()
        for days, start, end in self.windows:
            if end > start:
                if day in days and start <= at < end:
                    return True
            elif (day in days and at >= start) or ((day - 1) % 7 in days and at < end):
                return True
        return False

    def at(self, t: int, zone: str) -> tuple[bool, int | None]:
        """Whether `t` is quiet, and the next instant (ms) at which that changes; None for never."""
        span = self._spans.get(zone)
        if span is None or t < span[0] or (span[1] is not None and t >= span[1]):
            quiet = self.quiet_on(wall(t, zone))
            span = self._spans[zone] = (t, self._change(t, zone, quiet), quiet)
        return span[2], span[1]

    def _change(self, t: int, zone: str, quiet: bool) -> int | None:
        """The first instant after `t` that is not `quiet`-alike. Only at the edges of a window, or at a
        change of clocks, can it change; the instants of two days are looked at together, as a change
        of clocks may turn their order round."""
        first = wall(t, zone).date()
        edges = {m for _, start, end in self.windows for m in (start % 1440, end % 1440)}
        for offset in range(-1, _HORIZON_DAYS, 2):
            found = set[int]()
            for day in (first + timedelta(days=offset + i) for i in range(3)):
                found.update(_instants(day, edges, zone))
            for c in sorted(found):
                if c > t and self.quiet_on(wall(c, zone)) != quiet:
                    return c
        return None


def _instants(day: date, edges: set[int], zone: str) -> Iterator[int]:
    """Instants at which one of the wall times `edges` is shown, or the clocks change, on `day`."""
    for edge in edges:
        shown = datetime.combine(day, time(edge // 60, edge % 60), ZoneInfo(zone))
        for fold in (0, 1):
            yield (shown.replace(fold=fold) - _EPOCH) // _MS
    yield from clock_change(day, zone)


@lru_cache(maxsize=4096)
def clock_change(day: date, zone: str) -> tuple[int, ...]:
    """The instant (ms) within the UTC day `day` at which the zone's offset changes, if it does."""
    low = (datetime.combine(day, time(), UTC) - _EPOCH) // _MS
    high = low + DAY
    before, after = wall(low, zone).utcoffset(), wall(high, zone).utcoffset()
    if before == after:
        return ()
    while high - low > 1:
        middle = (low + high) // 2
        if wall(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return (high,)
