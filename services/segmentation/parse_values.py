"""The values inside a rule: operators with their values, windows, durations and instants. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from rondo_common.clock import from_iso, iso
from rondo_common.durations import parse_duration
from services.segmentation import rules as r

MOST_TEXT = 200
"""Characters of a text in a rule."""
MOST_VALUES = 1000
"""Elements of the list of in and not_in."""


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a rule. `detail` says what would be right, `summary` names the mistake."""

    pointer: str
    code: str
    detail: str
    summary: str = ""


class Mistakes:
    """Gathers mistakes; `base` is the pointer of the rule in what was sent."""

    def __init__(self, base: str):
        self.base = base
        self.found: list[Mistake] = []

    def add(self, at: str, code: str, detail: str, summary: str = "") -> None:
        self.found.append(Mistake(self.base + at, code, detail, summary or f"{at or 'The rule'}: {detail}"))


def child(at: str, name: str) -> str:
    """JSON pointer of the member `name` of what is at `at`."""
    return f"{at}/{name[:100].replace('~', '~0').replace('/', '~1')}"


def one_of(choices: Iterable[str]) -> str:
    return "one of " + ", ".join(choices)


def is_number(value: Any) -> bool:
    """A JSON number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def test(
    leaf: dict[str, Any], at: str, allowed: tuple[str, ...], mistakes: Mistakes, numbers: bool = False
) -> r.Test | None:
    """The operator and value of `leaf`. `numbers`: what is compared is a number."""
    operator = leaf["operator"]
    if operator not in allowed:
        named = f"'{operator[:60]}'" if isinstance(operator, str) else type(operator).__name__
        known = isinstance(operator, str) and operator in r.TRAIT_OPERATORS
        summary = f"Operator {named} does not fit here" if known else f"Unknown operator {named}"
        return mistakes.add(f"{at}/operator", "unknown_operator", one_of(allowed), summary)
    here = f"{at}/value"
    if operator in r.PRESENCE_OPERATORS:
        if leaf.get("value") is not None:
            return mistakes.add(here, "not_allowed", f"{operator} takes no value")
        return r.Test(operator)
    if "value" not in leaf:
        return mistakes.add(here, "required", f"{operator} needs a value", "Missing field 'value'")
    value = leaf["value"]
    if operator in ("before", "after"):
        at_or_ago = _instant_or_ago(value, here, mistakes)
        return r.Test(operator, at_or_ago) if at_or_ago else None
    if operator == "within_last":
        text = value["ago"] if isinstance(value, dict) and list(value) == ["ago"] else value
        ms = duration(text, here, mistakes, positive=True)
        return r.Test(operator, ms) if ms is not None else None
    if operator in ("in", "not_in"):
        return _list(operator, value, here, mistakes, numbers)
    if operator in ("contains", "starts_with"):
        good, wanted = isinstance(value, str), "a text"
    elif numbers:
        good, wanted = is_number(value), "a number"
    elif operator in ("eq", "ne"):
        good, wanted = _is_scalar(value), "a text, a number, true or false (for missing values: exists, not_exists)"
    else:
        good, wanted = is_number(value) or isinstance(value, str), "a number or a text"
    if not good:
        return mistakes.add(here, "wrong_type", wanted, f"The value of {operator} must be {wanted}")
    if isinstance(value, str) and len(value) > MOST_TEXT:
        return mistakes.add(here, "too_long", f"at most {MOST_TEXT} characters")
    return r.Test(operator, value)


def _list(operator: str, value: Any, here: str, mistakes: Mistakes, numbers: bool) -> r.Test | None:
    if not isinstance(value, list):
        return mistakes.add(here, "wrong_type", "a list of values", f"The value of {operator} must be a list")
    if not value:
        return mistakes.add(here, "empty", "at least one value")
    if len(value) > MOST_VALUES:
        return mistakes.add(here, "too_large", f"at most {MOST_VALUES} values")
    before = len(mistakes.found)
    for i, one in enumerate(value):
        if not (is_number(one) if numbers else _is_scalar(one)):
            mistakes.add(f"{here}/{i}", "wrong_type", "a number" if numbers else "a text, a number, true or false")
        elif isinstance(one, str) and len(one) > MOST_TEXT:
            mistakes.add(f"{here}/{i}", "too_long", f"at most {MOST_TEXT} characters")
    return None if len(mistakes.found) > before else r.Test(operator, tuple(value))


def duration(value: Any, at: str, mistakes: Mistakes, positive: bool = False) -> int | None:
    """Milliseconds of an ISO 8601 duration; `positive`: longer than nothing."""
    wanted = "an ISO 8601 duration in W, D, H, M and S, such as P90D or PT30M"
    if not isinstance(value, str):
        return mistakes.add(at, "wrong_type", wanted, f"A duration is a text, {wanted}")
    try:
        ms = parse_duration(value)
    except ValueError as e:
        return mistakes.add(at, "bad_duration", wanted, str(e)[:200])
    if positive and not ms:
        return mistakes.add(at, "bad_duration", "longer than zero")
    return ms


def instant(value: Any, at: str, mistakes: Mistakes) -> int | None:
    """Milliseconds of an RFC 3339 instant with a zone."""
    wanted = "an RFC 3339 time with a zone, such as 2026-11-20T12:00:00Z"
    if not isinstance(value, str):
        return mistakes.add(at, "wrong_type", wanted)
    try:
        ms = from_iso(value)
        iso(ms)  # years 1 to 9999 in UTC
        return ms
    except (ValueError, OverflowError) as e:
        code = "naive_time" if "without a zone" in str(e) else "bad_time"
        return mistakes.add(at, code, wanted, str(e)[:200])


def _instant_or_ago(value: Any, at: str, mistakes: Mistakes) -> r.Instant | None:
    if isinstance(value, dict):
        for name in value:
            if name != "ago":
                return mistakes.add(child(at, name), "unknown_field", "one of ago", f"Unknown field '{name}'")
        if "ago" not in value:
            return mistakes.add(f"{at}/ago", "required", "ago is required", "Missing field 'ago'")
        ago = duration(value["ago"], f"{at}/ago", mistakes)
        return None if ago is None else r.Instant(ago=ago)
    ms = instant(value, at, mistakes)
    return None if ms is None else r.Instant(at=ms)


def window(leaf: dict[str, Any], at: str, mistakes: Mistakes) -> r.Window | None:
    """The window of an event or message leaf."""
    if "within" in leaf and "between" in leaf:
        return mistakes.add(
            f"{at}/between", "within_and_between", "one of within, between", "A leaf has within or between, not both"
        )
    if "within" in leaf:
        ms = duration(leaf["within"], f"{at}/within", mistakes, positive=True)
        return None if ms is None else r.Window(within=ms)
    if "between" not in leaf:
        return r.Window()
    ends = leaf["between"]
    if not isinstance(ends, list) or len(ends) != 2:
        return mistakes.add(f"{at}/between", "wrong_type", "a list of two times")
    start = instant(ends[0], f"{at}/between/0", mistakes)
    end = instant(ends[1], f"{at}/between/1", mistakes)
    if start is None or end is None:
        return None
    if start >= end:
        return mistakes.add(f"{at}/between/1", "out_of_range", "later than the first time")
    return r.Window(start=start, end=end)
