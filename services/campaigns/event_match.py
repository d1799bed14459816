"""Whether an event's properties fulfil a `where` (operators of WIRE 4). Pure.

Every condition is true or false: a missing or differently typed property makes it false, so also
`ne` and `not_in`, except not_exists. Text compares exactly, no text is read as a number, a bool is
no number.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from rondo_common.clock import from_iso
from rondo_common.durations import parse_duration
from rondo_common.problems import invalid
from services.campaigns.bodies import Condition

ORDER = ("gt", "gte", "lt", "lte")
OPERATORS = (
    *("eq", "ne", *ORDER, "in", "not_in", "contains", "starts_with"),
    *("exists", "not_exists", "before", "after", "within_last"),
)


def matches(where: Sequence[Condition], properties: msgspec.Raw | bytes | None, at: int) -> bool:
    """Whether all conditions hold for `properties` (a JSON object) of an event at `at` (ms)."""
    if not where:
        return True
    try:
        found = msgspec.json.decode(properties) if properties else {}
    except msgspec.DecodeError:
        found = {}
    values = found if isinstance(found, dict) else {}
    return all(_holds(c, values.get(c.property), at) for c in where)


def _holds(c: Condition, value: Any, at: int) -> bool:
    match c.operator:
        case "exists":
            return value is not None
        case "not_exists":
            return value is None
    if value is None:
        return False
    match c.operator:
        case "eq":
            return _kind(value) == _kind(c.value) and value == c.value
        case "ne":
            return _kind(value) == _kind(c.value) and value != c.value
        case "gt" | "gte" | "lt" | "lte":
            return _kind(value) == _kind(c.value) and _compared(c.operator, value, c.value)
        case "in":
            return any(_kind(v) == _kind(value) and v == value for v in c.value)
        case "not_in":
            same = [v for v in c.value if _kind(v) == _kind(value)]
            return bool(same) and value not in same
        case "contains":
            return isinstance(value, str) and c.value in value
        case "starts_with":
            return isinstance(value, str) and value.startswith(c.value)
    return _in_time(c, value, at)


def _in_time(c: Condition, value: Any, at: int) -> bool:
    try:
        moment = from_iso(value)
    except ValueError:
        return False
    if c.operator == "within_last":
        return at - parse_duration(_ago(c.value)) < moment <= at
    limit = at - parse_duration(c.value["ago"]) if isinstance(c.value, dict) else from_iso(c.value)
    return moment < limit if c.operator == "before" else moment > limit


def _compared(operator: str, a: Any, b: Any) -> bool:
    match operator:
        case "gt":
            return bool(a > b)
        case "gte":
            return bool(a >= b)
        case "lt":
            return bool(a < b)
    return bool(a <= b)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _ago(value: Any) -> Any:
    return value["ago"] if isinstance(value, dict) and list(value) == ["ago"] else value


def mistakes(where: Sequence[Condition], pointer: str) -> list[dict[str, str]]:
    """What is wrong with the conditions of a campaign; `pointer` is that of the list."""
    found = []
    for i, c in enumerate(where):
        here = f"{pointer}/{i}"
        if not c.property:
            found.append(invalid(f"{here}/property", "required", "the name of a property"))
        if c.operator not in OPERATORS:
            found.append(invalid(f"{here}/operator", "unknown_operator", f"one of {', '.join(OPERATORS)}"))
        elif wanted := _wrong_value(c):
            found.append(invalid(f"{here}/value", "wrong_type", wanted))
    return found


def _wrong_value(c: Condition) -> str | None:
    """What the operator wants instead of the value given; None when it fits."""
    value, kind = c.value, _kind(c.value)
    match c.operator:
        case "exists" | "not_exists":
            return None if value is None else "this operator takes no value"
        case "eq" | "ne":
            return None if kind != "other" else "a text, a number, true or false"
        case "gt" | "gte" | "lt" | "lte":
            return None if kind in ("number", "text") else "a number or a text"
        case "in" | "not_in":
            good = isinstance(value, list) and value and all(_kind(v) != "other" for v in value)
            return None if good else "a list of texts, numbers, true or false"
        case "contains" | "starts_with":
            return None if kind == "text" else "a text"
        case "within_last":
            return None if _is_duration(_ago(value)) else "a duration such as P7D"
    if isinstance(value, dict):
        good = list(value) == ["ago"] and _is_duration(value["ago"])
    else:
        good = _is_instant(value)
    return None if good else 'an RFC 3339 time with a zone, or {"ago": duration}'


def _is_duration(value: Any) -> bool:
    try:
        return parse_duration(value) >= 0
    except ValueError:
        return False


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, str) and from_iso(value) is not None
    except ValueError:
        return False
