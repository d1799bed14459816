"""Wrong rules are refused with the pointer of each mistake; right ones are read."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.durations import parse_duration
from rondo_common.problems import Problem
from rondo_common.records import Definition
from services.segmentation import rules as r
from services.segmentation.parse import MOST_DEPTH, parse
from services.segmentation.requests import rules as requests
from services.segmentation.ruleset import RuleSet
from tests.support.segment_strategies import rules

EVENT = {"name": "Bought", "measure": "count", "operator": "gte", "value": 3}
TRAIT = {"field": "plan", "operator": "eq", "value": "gold"}


def event(**changes):
    leaf = {**EVENT, **changes}
    return {"event": {k: v for k, v in leaf.items() if v is not ...}}


def trait(**changes):
    leaf = {**TRAIT, **changes}
    return {"trait": {k: v for k, v in leaf.items() if v is not ...}}


WRONG = [
    ("text", "/rule", "wrong_type"),
    (None, "/rule", "wrong_type"),
    ([], "/rule", "wrong_type"),
    ({}, "/rule", "one_key"),
    ({"and": [trait()], "or": [trait()]}, "/rule", "one_key"),
    ({"xor": []}, "/rule/xor", "unknown_rule"),
    ({"a/b~c": []}, "/rule/a~1b~0c", "unknown_rule"),
    ({"and": []}, "/rule/and", "empty"),
    ({"and": trait()}, "/rule/and", "wrong_type"),
    ({"or": [trait(), 5]}, "/rule/or/1", "wrong_type"),
    ({"not": [trait()]}, "/rule/not", "wrong_type"),
    ({"and": [trait(operator="greater")]}, "/rule/and/0/trait/operator", "unknown_operator"),
    (trait(operator=5), "/rule/trait/operator", "unknown_operator"),
    (trait(extra=1), "/rule/trait/extra", "unknown_field"),
    (trait(field=...), "/rule/trait/field", "required"),
    (trait(field=""), "/rule/trait/field", "wrong_type"),
    (trait(operator=...), "/rule/trait/operator", "required"),
    (trait(value=...), "/rule/trait/value", "required"),
    (trait(value=None), "/rule/trait/value", "wrong_type"),
    (trait(value={}), "/rule/trait/value", "wrong_type"),
    (trait(value="x" * 201), "/rule/trait/value", "too_long"),
    (trait(operator="gt", value=True), "/rule/trait/value", "wrong_type"),
    (trait(operator="contains", value=5), "/rule/trait/value", "wrong_type"),
    (trait(operator="in", value="gold"), "/rule/trait/value", "wrong_type"),
    (trait(operator="in", value=[]), "/rule/trait/value", "empty"),
    (trait(operator="in", value=["a", {}]), "/rule/trait/value/1", "wrong_type"),
    (trait(operator="exists"), "/rule/trait/value", "not_allowed"),
    (trait(operator="before", value="2026-01-01T00:00:00"), "/rule/trait/value", "naive_time"),
    (trait(operator="before", value="yesterday"), "/rule/trait/value", "bad_time"),
    (trait(operator="before", value=5), "/rule/trait/value", "wrong_type"),
    (trait(operator="after", value={"ago": "60 days"}), "/rule/trait/value/ago", "bad_duration"),
    (trait(operator="after", value={"in": "P1D"}), "/rule/trait/value/in", "unknown_field"),
    (trait(operator="within_last", value="P1Y"), "/rule/trait/value", "bad_duration"),
    (trait(operator="within_last", value="P0D"), "/rule/trait/value", "bad_duration"),
    (event(measure="mean"), "/rule/event/measure", "unknown_measure"),
    (event(operator=...), "/rule/event/operator", "required"),
    (event(value=...), "/rule/event/value", "required"),
    (event(value="3"), "/rule/event/value", "wrong_type"),
    (event(value=True), "/rule/event/value", "wrong_type"),
    (event(operator="contains", value="x"), "/rule/event/operator", "unknown_operator"),
    (event(operator="exists", value=...), "/rule/event/operator", "unknown_operator"),
    (event(measure="sum"), "/rule/event/property", "required"),
    (event(property="total"), "/rule/event/property", "not_allowed"),
    (event(measure="last"), "/rule/event/operator", "unknown_operator"),
    (event(within="P90D", between=["2026-01-01T00:00:00Z"] * 2), "/rule/event/between", "within_and_between"),
    (event(within="90"), "/rule/event/within", "bad_duration"),
    (event(within="P1M"), "/rule/event/within", "bad_duration"),
    (event(within=90), "/rule/event/within", "wrong_type"),
    (event(between=["2026-01-01T00:00:00Z"]), "/rule/event/between", "wrong_type"),
    (event(between=["2026-01-01", "2026-07-01T00:00:00Z"]), "/rule/event/between/0", "naive_time"),
    (event(between=["2026-07-01T00:00:00Z", "2026-01-01T00:00:00Z"]), "/rule/event/between/1", "out_of_range"),
    (event(where={}), "/rule/event/where", "wrong_type"),
    (event(where=[5]), "/rule/event/where/0", "wrong_type"),
    (event(where=[{"property": "total"}]), "/rule/event/where/0/operator", "required"),
    (event(where=[{"property": "t", "operator": "gt", "value": {}}]), "/rule/event/where/0/value", "wrong_type"),
    (
        event(where=[{"property": "p", "field": "t", "operator": "exists"}]),
        "/rule/event/where/0/field",
        "unknown_field",
    ),
    ({"message": {"action": "read"}}, "/rule/message/action", "unknown_action"),
    ({"message": {"action": "clicked", "actor": "robot"}}, "/rule/message/actor", "unknown_actor"),
    ({"message": {"action": "sent", "actor": "human"}}, "/rule/message/actor", "not_allowed"),
    (
        {"message": {"action": "sent", "measure": "sum", "operator": "gt", "value": 1}},
        "/rule/message/measure",
        "unknown_measure",
    ),
    ({"message": {}}, "/rule/message/action", "required"),
    ({"consent": {"channel": "fax", "topic": "x", "state": "granted"}}, "/rule/consent/channel", "unknown_channel"),
    ({"consent": {"channel": "email", "topic": "x", "state": "maybe"}}, "/rule/consent/state", "unknown_state"),
    ({"consent": {"channel": "email", "state": "granted"}}, "/rule/consent/topic", "required"),
    ({"reachable": {"channel": []}}, "/rule/reachable/channel", "unknown_channel"),
    ({"segment": {"id": 5}}, "/rule/segment/id", "wrong_type"),
    ({"segment": "loyal"}, "/rule/segment", "wrong_type"),
    ({"bucket": {"seed": "a", "from": 0.5, "to": 0.1}}, "/rule/bucket/to", "out_of_range"),
    ({"bucket": {"seed": "a", "from": -1, "to": 0.1}}, "/rule/bucket/from", "out_of_range"),
    ({"bucket": {"seed": "a", "from": 0, "to": "1"}}, "/rule/bucket/to", "out_of_range"),
    ({"and": [trait()] * 301}, "/rule/and/299", "too_large"),
]


@pytest.mark.parametrize(("rule", "pointer", "code"), WRONG)
def test_a_mistake_is_named_at_its_place(rule, pointer, code):
    found, mistakes = parse(rule, "/rule")
    assert found is None
    assert [(m.pointer, m.code) for m in mistakes] == [(pointer, code)]
    assert mistakes[0].detail and mistakes[0].summary


def test_all_mistakes_are_named():
    _, mistakes = parse({"and": [trait(operator="x"), {"not": event(within="x", measure="sum")}]}, "/rule")
    assert [m.pointer for m in mistakes] == [
        "/rule/and/0/trait/operator",
        "/rule/and/1/not/event/within",
        "/rule/and/1/not/event/property",
    ]


def test_depth_is_bounded():
    rule = trait()
    for _ in range(MOST_DEPTH - 1):
        rule = {"not": rule}
    assert parse(rule)[0] is not None
    assert parse({"not": rule})[1][0].code == "too_deep"
    for _ in range(5000):
        rule = {"not": rule}
    assert parse(rule)[1][0].code == "too_deep"


@settings(max_examples=100, deadline=None)
@given(rules)
def test_valid_rules_are_read_with_the_pointers_of_their_leaves(rule):
    tree, mistakes = parse(msgspec.json.decode(msgspec.json.encode(rule)))
    assert not mistakes and tree is not None
    for leaf in r.leaves(tree):
        value = rule
        for step in leaf.pointer.split("/")[1:]:
            value = value[int(step) if isinstance(value, list) else step]
        assert list(value) == [type(leaf).__name__.lower()]


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    ("and", "or", "not", "trait", "event", "message", "consent", "bucket", "field", "operator", "value")
                ),
                inner,
                max_size=3,
            ),
        ),
    )
)
def test_nonsense_is_refused_never_raised(value):
    rule, mistakes = parse(value)
    assert (rule is None) == bool(mistakes)


def test_a_bare_event_means_at_least_once():
    rule, _ = parse({"event": {"name": "Bought"}})
    assert rule.test == r.Test("gte", 1)


def refused(call, *args) -> Problem:
    with pytest.raises(Problem) as e:
        call(*args)
    return e.value


def known(**segments) -> RuleSet:
    definitions = [
        Definition("demo", "segment", id, 1, msgspec.Raw(msgspec.json.encode({"rule": rule})), "")
        for id, rule in segments.items()
    ]
    return RuleSet(definitions, lambda kind, value: value)


def test_what_is_not_served_yet_is_501_with_its_pointer():
    sequence = {"sequence": {"first": {"event": {"name": "a"}}, "within": "P1D"}}
    p = refused(requests.read_rule, {"and": [trait(), sequence]}, "/rule", known())
    assert p.status == 501 and "sequence" in p.detail
    assert p.errors[0]["pointer"] == "/rule/and/1/sequence"
    both = refused(requests.read_rule, {"and": [trait(operator="x"), sequence]}, "/rule", known())
    assert both.status == 422 and len(both.errors) == 2


def test_the_problem_is_the_one_of_the_contract():
    p = refused(requests.read_rule, {"and": [trait(operator="greater")]}, "/rule", known())
    assert (p.status, p.type, p.title) == (422, "/problems/invalid-rule", "The segment rule is not valid")
    assert p.detail == "Unknown operator 'greater'"
    assert p.errors[0]["pointer"] == "/rule/and/0/trait/operator"
    assert p.errors[0]["detail"].startswith("one of eq, ne, gt, ")


def test_references_are_checked():
    p = refused(requests.read_rule, {"or": [{"segment": {"id": "none"}}]}, "/rule", known())
    assert [(e["pointer"], e["code"]) for e in p.errors] == [("/rule/or/0/segment/id", "unknown_segment")]
    chain = known(a=trait(), b={"segment": {"id": "a"}}, c={"not": {"segment": {"id": "b"}}})
    assert chain.dependents("a") == ["b", "c"]
    for target in ("a", "b", "c"):
        p = refused(requests.read_rule, {"segment": {"id": target}}, "/rule", chain, "a")
        assert [(e["pointer"], e["code"]) for e in p.errors] == [("/rule/segment/id", "cycle")]
    assert requests.read_rule({"segment": {"id": "b"}}, "/rule", chain, "c")


def test_a_circle_that_slipped_in_holds_nobody_and_stops_nothing():
    rules = known(a={"segment": {"id": "b"}}, b={"segment": {"id": "a"}}, ok=trait())
    assert rules.broken and "ok" in rules.programs


@pytest.mark.parametrize(
    ("body", "pointer", "status"),
    [
        (b"{", None, 400),
        (b'{"rule": NaN}', None, 400),
        (b"\xff", None, 400),
        (b"[" * 100_000, "", 422),
        (b"[]", "", 422),
        (b"{}", "/rule", 422),
        (b'{"rule":{},"x":1}', "/x", 422),
        (b'{"rule":{},"at":"2026-01-01T00:00:00"}', "/at", 422),
        (b'{"rule":{},"at":5}', "/at", 422),
        (b'{"rule":{},"samples":101}', "/samples", 422),
        (b'{"rule":{},"samples":true}', "/samples", 422),
    ],
)
def test_wrong_bodies_of_a_preview(body, pointer, status):
    p = refused(requests.read_preview, body, 5)
    assert p.status == status
    if pointer is not None:
        assert [e["pointer"] for e in p.errors] == [pointer]


def test_a_segments_name_defaults_to_its_id():
    assert requests.read_definition(b'{"rule":{}}', "loyal") == {"name": "loyal", "rule": {}}
    assert refused(requests.read_definition, b'{"rule":{},"name":5}', "x").errors[0]["pointer"] == "/name"
    assert refused(requests.read_definition, b'{"rule":{},"id":"x"}', "x").errors[0]["pointer"] == "/id"


@pytest.mark.parametrize(
    ("text", "ms"),
    [("P90D", 7_776_000_000), ("PT30M", 1_800_000), ("P1W", 604_800_000), ("P1DT12H", 129_600_000), ("PT0.5S", 500)],
)
def test_durations(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "1D", "P1Y", "P1M", "P-1D", "PT1.5M", "p1d", "P99999999W", 5])
def test_wrong_durations(text):
    with pytest.raises(ValueError):
        parse_duration(text)
