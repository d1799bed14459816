"""Terms of a query: bound parameters, quoted names, and whether a stored value passes a test. Pure.

The same answers as `values` gives: types first; a missing or differently typed value never passes.
"""

import math
import struct
from fractions import Fraction
from typing import Any

from services.segmentation.model import TEXT_KEPT
from services.segmentation.rules import Test

WHOLE = 1 << 53
"""Up to here every whole number is a double."""
_COMPARE = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TIME = r"^\d{4}-\d{2}-\d{2}.([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d+)?)?(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)$"
"""RFC 3339 (and ISO 8601 without seconds) with a zone; whether the day exists the engine's reader says."""


class Parameters:
    """Values of a query by the names they are bound to."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any, type_: str) -> str:
        """The placeholder of a value of a ClickHouse type."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{type_}}}"

    def number(self, value: float) -> str:
        """A number of a rule: a whole one that is no double keeps its digits."""
        if isinstance(value, int) and abs(value) >= WHOLE and abs(value) < 1 << 126:
            return self.add(value, "Int128")
        return self.add(float(value), "Float64")


def path(name: str) -> str:
    """`data.a.b` of a property or trait, quoted: nothing in a name can end the quotes."""
    parts = (p.replace("\\", "\\\\").replace("`", "\\`") for p in name.split("."))
    return "data." + ".".join(f"`{p}`" for p in parts)


class Value:
    """A property or trait under its name: one expression a type, each NULL where the value has another."""

    def __init__(self, name: str):
        self.any = path(name)
        self.text = f"{self.any}.:String"
        self.bool = f"{self.any}.:Bool"
        self._whole, self._big, self._float = (f"{self.any}.:{t}" for t in ("Int64", "UInt64", "Float64"))
        self.number = f"coalesce({self._float}, toFloat64({self._whole}), toFloat64({self._big}))"
        self.instant = (
            f"if(match({self.text}, '{_TIME.replace(chr(92), chr(92) * 2)}'), "
            f"toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull({self.text}, 3, 'UTC')), NULL)"
        )
        self.distinct = (
            f"multiIf(isNotNull({self.text}), concat('t', {self.text}), isNotNull({self.bool}), "
            f"concat('b', toString({self.bool})), concat('n', toString({self.number})))"
        )

    def compare(self, sign: str, number: str) -> str:
        """Compares each kind of number for itself, which the engine does exactly."""
        return f"({self._whole} {sign} {number} OR {self._float} {sign} {number} OR {self._big} {sign} {number})"


def passes(test: Test, value: Value, at: int, p: Parameters, exists: str | None = None) -> str:
    """A UInt8 that says whether the value passes at `at` (ms). `exists`: when it is there, if not just when
    it is not NULL."""
    name, wanted = test.operator, test.value
    there = exists or f"isNotNull({value.any})"
    if name in ("exists", "not_exists"):
        return there if name == "exists" else f"NOT ({there})"
    if name in ("before", "after", "within_last"):
        return _sure(instants(test, value.instant, at, p))
    if name == "contains":
        text = p.add(wanted, "String")
        kept = f"substringUTF8({value.text}, 1, {TEXT_KEPT})"
        lists = (
            f"has({value.any}.:`Array(Nullable(String))`, {text}) OR "
            f"arrayExists(x -> dynamicElement(x, 'String') = {text}, {value.any}.:`Array(Dynamic)`)"
        )
        return _sure(f"position({kept}, {text}) > 0 OR {lists}")
    if name == "starts_with":
        return _sure(f"startsWith({value.text}, {p.add(wanted, 'String')})")
    if name in ("in", "not_in"):
        return _sure(_among(name == "in", wanted, value, p))
    sign = _COMPARE[name]
    if isinstance(wanted, bool):
        return _sure(f"{value.bool} {sign} {p.add(int(wanted), 'UInt8')}")
    if isinstance(wanted, str):
        return _sure(f"{value.text} {sign} {p.add(wanted, 'String')}")
    return _sure(value.compare(sign, p.number(wanted)))


def _sure(condition: str) -> str:
    return f"ifNull({condition}, 0)"


def _among(inside: bool, wanted: tuple[Any, ...], value: Value, p: Parameters) -> str:
    word = "IN" if inside else "NOT IN"
    texts = [w for w in wanted if isinstance(w, str)]
    bools = [int(w) for w in wanted if isinstance(w, bool)]
    numbers = [float(w) for w in wanted if not isinstance(w, str | bool)]
    parts = []
    if texts:
        parts.append(_sure(f"{value.text} {word} {p.add(texts, 'Array(String)')}"))
    if bools:
        parts.append(_sure(f"toUInt8({value.bool}) {word} {p.add(bools, 'Array(UInt8)')}"))
    if numbers:
        parts.append(_sure(f"{value.number} {word} {p.add(numbers, 'Array(Float64)')}"))
    return "(" + " OR ".join(parts) + ")"


def instants(test: Test, instant: str, at: int, p: Parameters) -> str:
    """before, after, within_last of an expression in ms; NULL where that is NULL."""
    if test.operator == "within_last":
        last, first = p.add(at, "Int64"), p.add(at - test.value, "Int64")
        return f"({instant} <= {last} AND {instant} > {first})"
    limit = test.value.at if test.value.ago is None else at - test.value.ago
    return f"{instant} {'<' if test.operator == 'before' else '>'} {p.add(limit, 'Int64')}"


def numbers(test: Test, number: str, p: Parameters) -> str:
    """A comparison of an expression that is a number."""
    if test.operator in ("in", "not_in"):
        found = [float(w) for w in test.value if not isinstance(w, str | bool)]
        word = "IN" if test.operator == "in" else "NOT IN"
        return f"toFloat64({number}) {word} {p.add(found, 'Array(Float64)')}"
    return f"{number} {_COMPARE[test.operator]} {p.number(test.value)}"


UNITS = 64
"""Exact sums count in 2^-64."""


def sums(test: Test, units: str, p: Parameters) -> str:
    """Whether an exact sum, in units of 2^-64, passes once it is rounded to a double, which is what the
    evaluator compares (fsum)."""

    def least(wanted: float, above: bool) -> str:
        return p.add(_least(wanted, above), "Int128")

    match test.operator:
        case "gte":
            return f"{units} >= {least(test.value, False)}"
        case "gt":
            return f"{units} >= {least(test.value, True)}"
        case "lt":
            return f"{units} < {least(test.value, False)}"
        case "lte":
            return f"{units} < {least(test.value, True)}"
    wanted = test.value if test.operator in ("in", "not_in") else (test.value,)
    found = " OR ".join(
        f"({units} >= {least(w, False)} AND {units} < {least(w, True)})"
        for w in wanted
        if not isinstance(w, str | bool)
    )
    return f"({found})" if test.operator in ("eq", "in") else f"NOT ({found})"


def _least(wanted: float, above: bool) -> int:
    """The least sum in units that rounds to a double >= wanted (`above`: > wanted)."""
    double = float(wanted)
    if double < wanted or (above and double <= wanted):
        double = math.nextafter(double, math.inf)
    if not above and (lower := math.nextafter(double, -math.inf)) >= wanted:
        double = lower
    middle = (Fraction(double) + Fraction(math.nextafter(double, -math.inf))) / 2 * 2**UNITS
    even = not struct.unpack("<q", struct.pack("<d", double))[0] & 1
    units = math.ceil(middle) if even else math.floor(middle) + 1
    most = (1 << 127) - 1
    return max(-most, min(units, most))
