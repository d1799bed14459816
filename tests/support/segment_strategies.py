"""Random rules and random members for property tests of segmentation. Times lie close together, so that
windows, thresholds and facts meet on the same ms."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from tests.support.segment_oracle import Person

START = 1_790_000_000_000
STEP = 43_200_000
"""Half a day: most instants are a multiple of it after START, some 1 ms beside."""

NAMES = ("Bought", "Visited")
FIELDS = ("plan", "age", "since", "since", "email", "phone")


def text_of(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


GRID = [START + n * STEP + d for n in range(-22, 34) for d in (-1, 0, 1)]
"""Instants at which answers are looked at: around every one at which facts and thresholds lie."""

instants = st.builds(lambda n, d: START + n * STEP + d, st.integers(-6, 12), st.sampled_from((0, 0, 0, -1, 1)))
lengths = st.sampled_from(("PT12H", "P1D", "P2D", "P1W", "P1DT12H", "P4D"))
numbers = st.sampled_from((0, 1, 2, 3, 2.5, 0.1, 0.2, 10, -1, 31.5))
texts = st.sampled_from(("gold", "silver", "10", "", "go"))
scalars = st.one_of(numbers, texts, st.booleans())
time_texts = st.builds(text_of, instants)
stored = st.one_of(scalars, time_texts, st.just(["gold", "x"]))
comparisons = st.sampled_from(("gte", "gte", "gt", "lt", "lte", "eq", "ne"))
agos = st.one_of(time_texts, lengths.map(lambda d: {"ago": d}))


@st.composite
def tests(draw: Any) -> dict[str, Any]:
    """An operator with a value for traits and conditions."""
    operator = draw(
        st.sampled_from(
            ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "exists", "not_exists")
            + ("before", "after", "within_last") * 2
        )
    )
    match operator:
        case "exists" | "not_exists":
            return {"operator": operator}
        case "before" | "after":
            return {"operator": operator, "value": draw(agos)}
        case "within_last":
            return {"operator": operator, "value": draw(lengths)}
        case "in" | "not_in":
            return {"operator": operator, "value": draw(st.lists(scalars, min_size=1, max_size=3))}
        case "contains" | "starts_with":
            return {"operator": operator, "value": draw(texts)}
        case "eq" | "ne":
            return {"operator": operator, "value": draw(scalars)}
    return {"operator": operator, "value": draw(st.one_of(numbers, texts))}


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    match draw(st.sampled_from(("ever", "within", "within", "between"))):
        case "within":
            return {"within": draw(lengths)}
        case "between":
            a, b = sorted((draw(instants), draw(instants)))
            return {"between": [text_of(a), text_of(b if b > a else a + 1)]}
    return {}


@st.composite
def event_leaves(draw: Any) -> dict[str, Any]:
    leaf: dict[str, Any] = {"name": draw(st.sampled_from(NAMES)), **draw(windows())}
    conditions = draw(st.lists(tests(), max_size=2))
    if conditions and draw(st.booleans()):
        leaf["where"] = [{"property": draw(st.sampled_from(("total", "sku", "due"))), **c} for c in conditions]
    measure = draw(st.sampled_from(("count", "count", "count", "sum", "min", "max", "distinct", "first", "last", "")))
    if not measure:
        return {"event": leaf}
    leaf["measure"] = measure
    if measure in ("sum", "min", "max", "distinct"):
        leaf["property"] = draw(st.sampled_from(("total", "sku")))
    if measure in ("first", "last"):
        operator = draw(st.sampled_from(("before", "after", "within_last", "exists", "not_exists")))
        value: Any = draw(lengths) if operator == "within_last" else draw(agos)
    else:
        operator = draw(comparisons)
        value = draw(st.one_of(st.integers(-1, 4), numbers))
    leaf |= {"operator": operator} if "exists" in operator else {"operator": operator, "value": value}
    return {"event": leaf}


@st.composite
def message_leaves(draw: Any) -> dict[str, Any]:
    leaf: dict[str, Any] = {"action": draw(st.sampled_from(("sent", "clicked", "opened"))), **draw(windows())}
    if draw(st.booleans()):
        leaf["campaign"] = draw(st.sampled_from(("spring", "cart")))
    if leaf["action"] != "sent" and draw(st.booleans()):
        leaf["actor"] = draw(st.sampled_from(("human", "machine")))
    if draw(st.booleans()):
        leaf |= {"measure": "count", "operator": draw(comparisons), "value": draw(st.integers(0, 3))}
    return {"message": leaf}


channels = st.sampled_from(("email", "sms"))


@st.composite
def trait_leaves(draw: Any) -> dict[str, Any]:
    field = draw(st.sampled_from(FIELDS))
    test = draw(tests())
    while field == "since" and test["operator"] not in ("before", "after", "within_last"):
        test = draw(tests())
    return {"trait": {"field": field, **test}}


LEAVES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "trait": trait_leaves(),
    "event": event_leaves(),
    "message": message_leaves(),
    "consent": st.builds(
        lambda c, t, s: {"consent": {"channel": c, "topic": t, "state": s}},
        channels,
        st.sampled_from(("offers", "offers", "*")),
        st.sampled_from(("granted", "denied")),
    ),
    "reachable": st.builds(lambda c: {"reachable": {"channel": c}}, channels),
    "bucket": st.builds(
        lambda a: {"bucket": {"seed": "s", "from": 0.0, "to": a}}, st.sampled_from((0.0, 0.4, 0.6, 1.0))
    ),
}
"""Rules of one leaf, by kind."""
leaves = st.one_of(*LEAVES.values(), LEAVES["event"])
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=5,
)

properties = st.fixed_dictionaries({}, optional={"total": st.one_of(numbers, texts), "sku": scalars, "due": time_texts})


@st.composite
def people(draw: Any) -> Person:
    """A member with some history; one value of a trait an instant."""
    person = Person()
    names = st.sampled_from(("Bought", "Bought", "Visited"))
    person.events = draw(st.lists(st.tuples(instants, names, properties), min_size=2, max_size=6))
    traits = draw(
        st.lists(
            st.one_of(
                st.tuples(instants, st.sampled_from(FIELDS[:2]), st.one_of(stored, st.none())),
                st.tuples(instants, st.just("since"), st.one_of(time_texts, time_texts, stored)),
            ),
            min_size=2,
            max_size=6,
            unique_by=lambda t: t[:2],
        )
    )
    addresses = st.sampled_from((("email", "a@b.c"), ("phone", "+3361234567"), ("email", None)))
    traits += [(t, *a) for t, a in draw(st.lists(st.tuples(instants, addresses), max_size=3, unique_by=lambda t: t[0]))]
    person.traits = traits
    keys = st.sampled_from(("email:offers", "email:*", "sms:offers", "sms:*"))
    person.consents = draw(st.lists(st.tuples(instants, keys, st.booleans()), min_size=2, max_size=5))
    person.messages = draw(
        st.lists(
            st.tuples(
                instants,
                st.sampled_from(("sent", "clicked", "opened")),
                st.sampled_from(("spring", "cart")),
                st.sampled_from(("human", "machine")),
            ),
            min_size=2,
            max_size=6,
        )
    )
    person.suppressions = draw(st.lists(st.tuples(instants, channels), max_size=1))
    return person
