"""WIRE 4 once more, as plainly as it can be said: whether a rule holds for a member at an instant, by
looking at every fact. Shares no code with the service."""

import hashlib
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
UNITS = {"W": 604_800_000, "D": 86_400_000, "H": 3_600_000, "M": 60_000, "S": 1000}


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def instant(value: Any) -> int | None:
    """ms of a text that is a time with a zone."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if at.tzinfo is None else (at - EPOCH) // timedelta(milliseconds=1)


def length(text: str) -> int:
    total, digits = 0, ""
    for c in text.removeprefix("P"):
        if c.isdigit():
            digits += c
        elif c != "T":
            total += int(digits) * UNITS[c]
            digits = ""
    return total


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def passes(operator: str, wanted: Any, value: Any, at: int) -> bool:
    if operator == "exists":
        return value is not None
    if operator == "not_exists":
        return value is None
    if value is None:
        return False
    if operator in ("before", "after"):
        t = instant(value)
        limit = at - length(wanted["ago"]) if isinstance(wanted, dict) else ms(wanted)
        return t is not None and (t < limit if operator == "before" else t > limit)
    if operator == "within_last":
        t = instant(value)
        return t is not None and at - length(wanted) < t <= at
    if operator == "contains":
        return isinstance(value, str | list) and wanted in value
    if operator == "starts_with":
        return isinstance(value, str) and value.startswith(wanted)
    if operator in ("in", "not_in"):
        same = [w for w in wanted if kind(w) == kind(value)]
        return bool(same) and (value in same) == (operator == "in")
    if kind(value) != kind(wanted) or kind(value) == "other":
        return False
    match operator:
        case "eq":
            return value == wanted
        case "ne":
            return value != wanted
        case "gt":
            return value > wanted
        case "gte":
            return value >= wanted
        case "lt":
            return value < wanted
        case "lte":
            return value <= wanted
    raise AssertionError(operator)


class Person:
    """A member's facts: traits and consents as (ms, name, value), events as (ms, name, properties),
    messages as (ms, action, campaign, actor), suppressions as (ms, channel)."""

    def __init__(self, member_id: str = "m1"):
        self.member_id = member_id
        self.traits: list[tuple[int, str, Any]] = []
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self.consents: list[tuple[int, str, bool]] = []
        self.messages: list[tuple[int, str, str, str]] = []
        self.suppressions: list[tuple[int, str]] = []


def trait(person: Person, field: str, at: int) -> Any:
    known = [(t, value) for t, name, value in person.traits if name == field and t <= at]
    return max(known, key=lambda k: k[0])[1] if known else None


def consent(person: Person, key: str, at: int) -> bool | None:
    known = [(t, not granted) for t, name, granted in person.consents if name == key and t <= at]
    return not max(known)[1] if known else None


def measured(leaf: dict[str, Any], found: list[tuple[int, Any]], at: int) -> bool:
    """The measure of (time, value of the property) pairs against operator and value."""
    found = [f for f in found if f[0] <= at]
    if "within" in leaf:
        found = [f for f in found if f[0] > at - length(leaf["within"])]
    if "between" in leaf:
        a, b = map(ms, leaf["between"])
        found = [f for f in found if a <= f[0] < b]
    measure = leaf.get("measure", "count")
    values = [v for _, v in found]
    numbers = [v for v in values if kind(v) == "number"]
    value: Any
    if measure == "count":
        value = len(found)
    elif measure == "sum":
        value = float(sum(map(Fraction, numbers), Fraction(0)))
    elif measure in ("min", "max"):
        value = (min if measure == "min" else max)(numbers) if numbers else None
    elif measure == "distinct":
        value = len({(kind(v), v) for v in values if kind(v) != "other"}) or None
    else:
        times = [t for t, _ in found]
        value = (min if measure == "first" else max)(times) if times else None
        if value is not None:
            value = (EPOCH + timedelta(milliseconds=value)).isoformat()
    return passes(leaf.get("operator", "gte"), leaf.get("value", 1), value, at)


def holds(rule: dict[str, Any], person: Person, at: int, segments: dict[str, Any] | None = None) -> bool:
    """Whether `rule` (JSON values) holds at `at` (ms)."""
    ((name, leaf),) = rule.items()
    match name:
        case "and":
            return all([holds(part, person, at, segments) for part in leaf])
        case "or":
            return any([holds(part, person, at, segments) for part in leaf])
        case "not":
            return not holds(leaf, person, at, segments)
        case "trait":
            return passes(leaf["operator"], leaf.get("value"), trait(person, leaf["field"], at), at)
        case "event":
            found = [
                (t, props.get(leaf.get("property", "")))
                for t, event, props in person.events
                if event == leaf["name"]
                and all(
                    passes(c["operator"], c.get("value"), props.get(c["property"]), at) for c in leaf.get("where", [])
                )
            ]
            return measured(leaf, found, at)
        case "message":
            found = [
                (t, None)
                for t, action, campaign, actor in person.messages
                if action == leaf["action"]
                and leaf.get("campaign", campaign) == campaign
                and leaf.get("actor", actor) == actor
            ]
            return measured(leaf, found, at)
        case "consent":
            everything = consent(person, leaf["channel"] + ":*", at)
            own = consent(person, leaf["channel"] + ":" + leaf["topic"], at)
            if everything is False:
                verdict = False
            elif own is not None:
                verdict = own
            else:
                verdict = bool(everything)
            return verdict == (leaf["state"] == "granted")
        case "reachable":
            field = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}[leaf["channel"]]
            address = trait(person, field, at)
            return address is not None and not any(t <= at and c == leaf["channel"] for t, c in person.suppressions)
        case "segment":
            nested = (segments or {}).get(leaf["id"])
            return nested is not None and holds(nested, person, at, segments)
        case "bucket":
            digest = hashlib.sha256(f"{leaf['seed']}:{person.member_id}".encode()).hexdigest()
            return leaf["from"] <= int(digest[:8], 16) / 2**32 < leaf["to"]
    raise AssertionError(name)
