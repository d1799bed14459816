"""What a leaf asks of one member, as aggregates over its rows. Pure.

An atom is a yes or no about a member that one source answers: a condition on the source's rows and an
expression over aggregates of them. `nothing` is its answer for a member without any such row.
"""

from dataclasses import dataclass
from typing import Any

from services.segmentation import rules as r
from services.segmentation import values
from services.segmentation.sql import terms
from services.segmentation.sql.terms import Parameters, Value

ADDRESS = {
    "email": ("email", r"^\s*[^@\s]+@[^@\s]+\s*$"),
    "sms": ("phone", r"^\s*\+[\d\s().-]{6,38}\s*$"),
    "messaging": ("telegram_chat_id", r"^\s*@?[A-Za-z0-9_-]{1,64}\s*$"),
}
"""Channel to the trait that holds its address, and an address's shape (see `leaves_contact`)."""

SENT = {"sent": "accepted", "delivered": "delivered", "bounced": "bounced"}
"""Message actions and the delivery status that tells of them."""


@dataclass(frozen=True)
class Atom:
    """`source`: facts, bucket, or an action of messages. `rows`: which rows of it matter. `truth`:
    over aggregates of a member's rows."""

    source: str
    rows: str
    truth: str
    nothing: bool = False


def measured(
    node: r.Event | r.Message, rows: str, at: int, p: Parameters, value: Value | None = None
) -> tuple[str, str, bool]:
    """(rows, truth, nothing) of a measure over rows with a column `at`."""
    window, test = node.window, node.test
    rows += f" AND at <= {p.add(at, 'Int64')}"
    if window.within is not None:
        rows += f" AND at > {p.add(at - window.within, 'Int64')}"
    if window.start is not None and window.end is not None:
        rows += f" AND at >= {p.add(window.start, 'Int64')} AND at < {p.add(window.end, 'Int64')}"
    if node.measure == "count":
        return rows, terms.numbers(test, f"countIf({rows})", p), bool(_of_zero(test))
    if node.measure in ("first", "last"):
        found = f"{'min' if node.measure == 'first' else 'max'}OrNullIf(at, {rows})"
        return rows, *_maybe(test, found, lambda t: terms.instants(t, found, at, p))
    assert value is not None  # the other measures are of a property
    if node.measure == "sum":
        return *_sum(test, rows, value, p), bool(_of_zero(test))
    if node.measure == "distinct":
        rows += f" AND (isNotNull({value.text}) OR isNotNull({value.bool}) OR isNotNull({value.number}))"
        found = f"nullIf(uniqExactIf({value.distinct}, {rows}), 0)"
    else:
        rows += f" AND isNotNull({value.number})"
        found = f"{node.measure}OrNullIf({value.number}, {rows})"
    return rows, *_maybe(test, found, lambda t: terms.numbers(t, found, p))


def _of_zero(test: r.Test) -> bool:
    return values.passes(test)(0)


def _maybe(test: r.Test, found: str, otherwise: Any) -> tuple[str, bool]:
    """The truth of a measure that is NULL of nothing, and its answer then."""
    if test.operator == "exists":
        return f"isNotNull({found})", False
    if test.operator == "not_exists":
        return f"isNull({found})", True
    return f"ifNull({otherwise(test)}, 0)", False


def _sum(test: r.Test, rows: str, value: Value, p: Parameters) -> tuple[str, str]:
    """Exact in two halves of 64 bits (units of 2^-16 and 2^-64) as long as the amounts together stay below
    2^46; beyond that the engine's own sum of doubles."""
    rows += f" AND isNotNull({value.number})"
    number = f"assumeNotNull({value.number})"
    high = f"toInt64({number} * 65536)"
    low = f"toInt64(({number} * 65536 - {high}) * 281474976710656)"
    units = f"(toInt128(sumIf({high}, {rows})) * 281474976710656 + toInt128(sumIf({low}, {rows})))"
    small = f"sumIf(abs({number}), {rows}) < 70368744177664"
    plain = terms.numbers(test, f"sumIf({number}, {rows})", p)
    return rows, f"if({small}, {terms.sums(test, units, p)}, {plain})"


def event(node: r.Event, at: int, p: Parameters) -> Atom:
    rows = f"what = {p.add('e:' + node.name, 'String')}"
    for condition in node.where:
        rows += " AND " + terms.passes(condition.test, Value(condition.property), at, p)
    value = Value(node.property) if node.property is not None else None
    return Atom("facts", *measured(node, rows, at, p, value))


def message(node: r.Message, at: int, p: Parameters) -> Atom:
    rows = "1"
    if node.campaign is not None:
        rows += f" AND campaign = {p.add(node.campaign, 'String')}"
    if node.actor is not None:
        rows += f" AND actor = {p.add(node.actor, 'String')}"
    return Atom(node.action, *measured(node, rows, at, p))


def _newest(passes: str, mention: str, at: int, p: Parameters) -> tuple[str, str]:
    """(rows, truth): whether the newest row that mentions a trait at `at` passes."""
    rows = f"what = 't' AND {mention} AND at <= {p.add(at, 'Int64')}"
    return rows, f"argMaxIf(toUInt8({passes}), place, {rows})"


def _mention(field: str, p: Parameters) -> tuple[str, str]:
    """(rows that speak of a trait, whether it is there then)."""
    head, value = field.split(".")[0], Value(field)
    said = f"has(said, {p.add(field, 'String')})"
    if head == field:
        return said, f"NOT has(gone, {p.add(field, 'String')})"
    inner = f"data.^{value.any.removeprefix('data.')}"
    return f"({said} OR has(said, {p.add(head, 'String')}))", (
        f"(isNotNull({value.any}) OR notEmpty(JSONAllPaths({inner})))"
    )


def trait(node: r.Trait, at: int, p: Parameters) -> Atom:
    mention, there = _mention(node.field, p)
    missing = node.test.operator == "not_exists"
    test = r.Test("exists") if missing else node.test
    rows, truth = _newest(terms.passes(test, Value(node.field), at, p, there), mention, at, p)
    return Atom("facts", rows, f"NOT {truth}" if missing else truth, missing)


def consent(node: r.Consent, at: int, p: Parameters) -> Atom:
    """The newest entry by (instant, denied): 2 * ms + denied, above all of which lies nothing."""

    def newest(topic: str) -> tuple[str, str]:
        rows = f"what = {p.add(f'c:{node.channel}:{topic}', 'String')} AND at <= {p.add(at, 'Int64')}"
        return rows, f"maxOrNullIf(at * 2 + (1 - granted), {rows})"

    rows, everything = newest("*")
    whole = f"bitAnd({everything}, 1)"
    truth = f"ifNull({whole} = 0, 0)"
    if node.topic != "*":
        own_rows, own = newest(node.topic)
        rows = f"({rows}) OR ({own_rows})"
        truth = f"(NOT ifNull({whole} = 1, 0) AND ifNull(bitAnd({own}, 1) = 0, {truth}))"
    granted = node.state == "granted"
    return Atom("facts", rows, truth if granted else f"NOT {truth}", not granted)


def address(channel: str, at: int, p: Parameters) -> Atom:
    """Whether the address of a channel has the shape of one."""
    field, shape = ADDRESS[channel]
    value = Value(field)
    good = f"match({value.text}, {p.add(shape, 'String')})"
    if channel == "messaging":
        good = f"({good} OR isNotNull({value.any}.:Int64))"
    rows, truth = _newest(f"ifNull({good}, 0)", _mention(field, p)[0], at, p)
    return Atom("facts", rows, truth)


def moved(channel: str, at: int, p: Parameters) -> Atom:
    """Whether the address was stated again after `at`."""
    rows = f"what = 't' AND {_mention(ADDRESS[channel][0], p)[0]} AND at > {p.add(at, 'Int64')}"
    return Atom("facts", rows, f"countIf({rows}) > 0")


def held(channel: str, at: int, p: Parameters, specific: bool) -> str:
    """Over a member's suppressions `held`: whether the present address is suppressed; `specific`: whether
    some address is."""
    which = "x.3 = 1" if specific else "(x.3 = 0 OR x.4 = 1)"
    name, when = p.add(channel, "String"), p.add(at, "Int64")
    return f"arrayExists(x -> x.1 = {name} AND x.2 <= {when} AND {which}, held)"


def bucket(node: r.Bucket, p: Parameters) -> Atom:
    """x = first 8 hex digits of sha256(seed:member_id) / 2^32."""
    digest = (
        f"SHA256(concat({p.add(node.seed + ':', 'String')}, UUIDNumToString(reverse(reinterpretAsFixedString(m)))))"
    )
    x = f"reinterpretAsUInt32(reverse(substring({digest}, 1, 4))) / 4294967296"
    return Atom("bucket", "1", f"({x} >= {p.add(node.start, 'Float64')} AND {x} < {p.add(node.end, 'Float64')})")
