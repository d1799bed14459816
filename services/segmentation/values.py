"""Does a stored value pass an operator? Types first: a missing or differently typed value never does,
also not `ne` and `not_in` (WIRE 4). Pure.

Stored values are what JSON gives: str, int, float, bool, None, list, dict. A bool is no number, and no
text is read as a number.
"""

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rondo_common.clock import from_iso
from services.segmentation.model import NEVER
from services.segmentation.rules import TIME_OPERATORS, Test

Passes = Callable[[Any], bool]
"""Whether a value passes, at any time."""
Timed = Callable[[int, int], tuple[bool, int]]
"""(instant compared, evaluation instant) -> whether it passes, and until when that holds."""

_COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_FAMILY: dict[type, str] = {str: "text", int: "number", float: "number", bool: "bool"}


def family(value: Any) -> str:
    """text, number, bool, or "" for what can't be compared."""
    return _FAMILY.get(type(value), "")


def is_relative(test: Test) -> bool:
    """Whether the answer moves with the evaluation instant."""
    return test.operator == "within_last" or (test.operator in ("before", "after") and test.value.ago is not None)


def passes(test: Test) -> Passes:
    """The check of a test that isn't relative to the evaluation instant."""
    name, wanted = test.operator, test.value
    if name == "exists":
        return lambda v: v is not None
    if name == "not_exists":
        return lambda v: v is None
    if name in TIME_OPERATORS:
        timed_check = timed(test)

        def at_time(v: Any) -> bool:
            t = instant_of(v)
            return t is not None and timed_check(t, 0)[0]

        return at_time
    if name == "contains":
        return lambda v: (type(v) is str or type(v) is list) and wanted in v
    if name == "starts_with":
        return lambda v: type(v) is str and v.startswith(wanted)
    if name in ("in", "not_in"):
        return _among(wanted, name == "in")
    kind = family(wanted)
    if name == "eq":
        return lambda v: v == wanted and _FAMILY.get(type(v)) == kind
    if name == "ne":
        return lambda v: v != wanted and _FAMILY.get(type(v)) == kind
    compare = _COMPARE[name]
    return lambda v: _FAMILY.get(type(v)) == kind and compare(v, wanted)


def _among(wanted: tuple[Any, ...], inside: bool) -> Passes:
    by_family: dict[str, set[Any]] = {}
    for one in wanted:
        by_family.setdefault(family(one), set()).add(one)

    def check(v: Any) -> bool:
        same = by_family.get(_FAMILY.get(type(v), ""))
        return same is not None and (v in same) is inside

    return check


@lru_cache(maxsize=8192)
def _instant_of(text: str) -> int | None:
    try:
        return from_iso(text)
    except (ValueError, OverflowError):
        return None


def instant_of(value: Any) -> int | None:
    """Milliseconds of a text that is an RFC 3339 instant with a zone; None for anything else."""
    return _instant_of(value) if type(value) is str else None


def timed(test: Test) -> Timed:
    """The check of before, after and within_last on an instant t, evaluated at `at`."""
    if test.operator == "within_last":
        within = test.value

        def within_last(t: int, at: int) -> tuple[bool, int]:
            if t > at:
                return False, t
            return (True, t + within) if at < t + within else (False, NEVER)

        return within_last
    limit, ago = test.value.at, test.value.ago
    if test.operator == "before":
        if ago is None:
            return lambda t, at: (t < limit, NEVER)
        return lambda t, at: (True, NEVER) if t < at - ago else (False, t + ago + 1)
    if ago is None:
        return lambda t, at: (t > limit, NEVER)
    return lambda t, at: (True, t + ago) if t > at - ago else (False, NEVER)


def points_of(test: Test, t: int) -> tuple[int, ...]:
    """Instants at which a relative test on t may change its answer."""
    if test.operator == "within_last":
        return t, t + test.value
    return t + test.value.ago, t + test.value.ago + 1
