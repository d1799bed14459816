"""Measures of events in a window, and until when the answer to a test on one holds. Pure.

Rolling window = (at - within, at]: an event at ts counts from ts until before ts + within.
between = [start, end). An event later than `at` does not count yet.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from math import fsum
from typing import Any

from services.segmentation import values as v
from services.segmentation.model import NEVER, Series
from services.segmentation.rules import Test, Window

STEPS = 256
"""Instants looked ahead for the next change of an answer; beyond, "may change" is answered."""

Select = Callable[[Series], tuple[list[int], list[Any]]]
"""The events that count, wherever they lie: times, and their values for measures of a property."""


def selector(conditions: list[tuple[str, v.Passes]], property: str | None, numeric: bool) -> Select:
    """Picks the events that pass all `conditions`, and have a value of `property` (a number when
    `numeric`) if one is asked for."""
    if not conditions and property is None:
        return lambda series: (series.at, series.at)

    def select(series: Series) -> tuple[list[int], list[Any]]:
        rows: Any = range(len(series.at))
        for name, check in conditions:
            column = series.columns.get(name)
            if column is None:
                if not check(None):
                    return [], []
            else:
                rows = [i for i in rows if check(column[i])]
        at = series.at
        if property is None:
            times = [at[i] for i in rows]
            return times, times
        column = series.columns.get(property)
        if column is None:
            return [], []
        if numeric:
            rows = [i for i in rows if type(column[i]) is int or type(column[i]) is float]
        else:
            rows = [i for i in rows if v.family(column[i])]
        return [at[i] for i in rows], [column[i] for i in rows]

    return select


def bounds(times: list[int], window: Window, at: int) -> tuple[int, int, int]:
    """lo, hi, end: times[lo:hi] count at `at`; times[hi:end] will, when their time has come."""
    if window.within is not None:
        hi = bisect_right(times, at)
        return bisect_right(times, at - window.within, 0, hi), hi, len(times)
    if window.start is not None and window.end is not None:
        end = bisect_left(times, window.end)
        lo = bisect_left(times, window.start, 0, end)
        return lo, max(lo, bisect_right(times, at, 0, end)), end
    return 0, bisect_right(times, at), len(times)


def measure(name: str, times: list[int], found: list[Any], lo: int, hi: int) -> Any:
    """The measure of the events lo to hi; None of nothing, but 0 for count and sum."""
    if name == "count":
        return hi - lo
    if name == "sum":
        return fsum(found[lo:hi])
    if lo >= hi:
        return None
    if name == "first":
        return times[lo]
    if name == "last":
        return times[hi - 1]
    if name == "min":
        return min(found[lo:hi])
    if name == "max":
        return max(found[lo:hi])
    return len({(type(one) is bool, one) for one in found[lo:hi]})


class Measured:
    """A test on a measure in a window."""

    def __init__(self, name: str, test: Test, window: Window):
        self.name = name
        self.window = window
        self._relative = v.is_relative(test)
        self._presence = test.operator in ("exists", "not_exists")
        self._none = test.operator == "not_exists"
        self._passes: v.Passes | None = None
        self._timed: v.Timed | None = None
        if test.operator in v.TIME_OPERATORS:
            self._timed = v.timed(test)
        else:
            self._passes = v.passes(test)
        # "at least n events": the commonest test, answered without looking ahead step by step
        self._least = 0
        if name == "count" and type(test.value) is int and test.operator in ("gte", "gt"):
            self._least = test.value + (test.operator == "gt")

    def truth(self, value: Any, at: int) -> tuple[bool, int]:
        """Whether a measured value passes at `at`, and until when while the value stays."""
        if value is None:
            return self._none, NEVER
        if self._timed is not None:
            return self._timed(value, at)
        return self._passes(value), NEVER  # type: ignore[misc]

    def test(self, times: list[int], found: list[Any], at: int) -> tuple[bool, int]:
        """Whether it passes at `at`, and the first instant after `at` at which that changes (or, after
        STEPS changes of the measure that change nothing, may change)."""
        lo, hi, end = bounds(times, self.window, at)
        within = self.window.within
        if self._least > 0 and hi == end:
            if hi - lo < self._least:
                return False, NEVER
            return True, NEVER if within is None else times[hi - self._least] + within
        truth, until = self.truth(measure(self.name, times, found, lo, hi), at)
        steps = 0
        while True:
            if within is not None and lo < hi:
                until = min(until, times[lo] + within)
            if hi < end:
                until = min(until, times[hi])
            steps += 1
            if until == NEVER or steps > STEPS:
                return truth, until
            changed_at = until
            hi = bisect_right(times, changed_at, hi, end)
            if within is not None:
                lo = bisect_right(times, changed_at - within, lo, hi)
            then, until = self.truth(measure(self.name, times, found, lo, hi), changed_at)
            if then != truth:
                return truth, changed_at

    def value(self, times: list[int], found: list[Any], at: int) -> Any:
        """The measure at `at`."""
        lo, hi, _ = bounds(times, self.window, at)
        return measure(self.name, times, found, lo, hi)
