"""The evaluator against an oracle that looks at every fact, and the exactness of `valid until`."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.records import Contact, Delivery, Engagement, MemberEvent
from services.segmentation import history
from services.segmentation.evaluate import Program, compile_rule
from services.segmentation.leaf import Facts
from services.segmentation.model import NEVER, Member
from services.segmentation.parse import parse
from tests.support import segment_oracle as oracle
from tests.support.segment_oracle import Person
from tests.support.segment_records import records
from tests.support.segment_strategies import GRID, LEAVES, START, STEP, instants, people, rules


def no_address_id(kind: str, value: str) -> str:
    return f"{kind}:{value}"


def program(rule: dict, segments: dict | None = None) -> Program:
    tree, mistakes = parse(rule)
    assert not mistakes, mistakes

    def lookup(id: str) -> Program | None:
        return program(segments[id], segments) if segments and id in segments else None

    return compile_rule(tree, no_address_id, lookup)


def member_of(person: Person, shuffle: int = 0) -> Member:
    facts = list(records(person))
    random.Random(shuffle).shuffle(facts)
    member = Member()
    for _, _, record in facts:
        match record:
            case MemberEvent():
                member, _ = history.of_event(member, record)
            case Contact():
                member, _ = history.of_contact(member, record)
            case Delivery():
                member, _ = history.of_delivery(member, record)
            case Engagement():
                member, _ = history.of_engagement(member, record)
    return member


def check_everywhere(rule: dict, person: Person, order: int) -> None:
    """At every instant of the grid: the oracle's answer, which stays until the instant named and is
    another one then. One leaf alone names that instant without looking further."""
    compiled, member = program(rule), member_of(person, order)
    truths = [(t, oracle.holds(rule, person, t)) for t in GRID]
    for n, (at, truth) in enumerate(truths):
        first, conservative = compiled.test(Facts(member, "m1", at))
        assert first == truth, at
        answer, until = compiled.until(member, "m1", at)
        assert (answer, at < conservative <= until) == (truth, True)
        assert all(t >= until or other == truth for t, other in truths[n:]), (at, until)
        if until != NEVER:
            assert oracle.holds(rule, person, until - 1) == truth, (at, until)
            assert oracle.holds(rule, person, until) != truth, (at, until)
        if len(compiled.leaves) == 1:
            assert conservative == until


@pytest.mark.parametrize("kind", sorted(LEAVES))
def test_a_leaf_holds_when_the_oracle_says_so_and_exactly_that_long(kind):
    @settings(max_examples=100 if kind == "event" else 40, deadline=None)
    @given(LEAVES[kind], people(), st.integers(0, 3))
    def check(rule, person, order):
        check_everywhere(rule, person, order)

    check()


@settings(max_examples=60, deadline=None)
@given(rules, people(), st.integers(0, 3))
def test_a_rule_holds_when_the_oracle_says_so_and_exactly_that_long(rule, person, order):
    check_everywhere(rule, person, order)


@settings(max_examples=50, deadline=None)
@given(rules, people(), instants)
def test_since_is_the_last_change_by_the_times_of_the_facts(rule, person, at):
    compiled, member = program(rule), member_of(person)
    since = compiled.since(member, "m1", at)
    truth = oracle.holds(rule, person, at)
    earlier = [START + n * STEP + d for n in range(-60, 13) for d in (-1, 0, 1, STEP // 2)]
    changes = [t for t in earlier if t <= at and oracle.holds(rule, person, t) != truth]
    if since is None:
        assert not changes
    else:
        assert since <= at
        assert all(t < since for t in changes)
        if changes:
            assert oracle.holds(rule, person, since - 1) != truth


@settings(max_examples=40, deadline=None)
@given(rules, rules, people(), instants)
def test_nested_segments_are_evaluated_at_the_same_instant(inner, other, person, at):
    segments = {"inner": inner}
    rule = {"and": [{"or": [{"segment": {"id": "inner"}}, {"segment": {"id": "unknown"}}]}, other]}
    compiled = program(rule, segments)
    member = member_of(person)
    assert compiled.holds(member, "m1", at) == oracle.holds(rule, person, at, segments)
    truth, until = compiled.until(member, "m1", at)
    if until != NEVER:
        assert oracle.holds(rule, person, until, segments) != truth


def test_a_rolling_window_ends_at_exactly_the_ms():
    rule = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
    person = Person()
    person.events = [(START, "Bought", {}), (START + 1000, "Bought", {}), (START + 5000, "Bought", {})]
    compiled, member = program(rule), member_of(person)
    assert compiled.until(member, "m1", START + 4999) == (False, START + 5000)
    end = START + 90 * 86_400_000
    assert compiled.until(member, "m1", START + 5000) == (True, end)
    assert compiled.until(member, "m1", end - 1) == (True, end)
    assert compiled.until(member, "m1", end) == (False, NEVER)


def test_more_than_enough_events_hold_until_the_one_that_is_needed_leaves():
    rule = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
    person = Person()
    person.events = [(START + i * 1000, "Bought", {}) for i in range(5)]
    facts = Facts(member_of(person), "m1", START + 5000)
    assert program(rule).test(facts) == (True, START + 2000 + 90 * 86_400_000)


def test_not_seen_for_sixty_days_becomes_true_one_ms_after_them():
    rule = {"event": {"name": "Bought", "measure": "last", "operator": "before", "value": {"ago": "P60D"}}}
    person = Person()
    person.events = [(START, "Bought", {})]
    due = START + 60 * 86_400_000 + 1
    assert program(rule).until(member_of(person), "m1", START) == (False, due)
    assert program(rule).until(member_of(person), "m1", due) == (True, NEVER)


def test_sums_are_exact_whatever_the_order():
    rule = {"event": {"name": "Bought", "measure": "sum", "property": "total", "operator": "eq", "value": 1.0}}
    person = Person()
    person.events = [(START + i, "Bought", {"total": 0.1}) for i in range(10)]
    assert program(rule).holds(member_of(person, 1), "m1", START + 10)


def test_inputs_say_what_a_leaf_looked_at():
    rule = {
        "and": [
            {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}},
            {"event": {"name": "Bought", "measure": "last", "operator": "exists"}},
            {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
            {"consent": {"channel": "email", "topic": "offers", "state": "granted"}},
        ]
    }
    person = Person()
    person.events = [(START, "Bought", {}), (START + 1000, "Bought", {})]
    person.traits = [(START, "plan", "silver")]
    person.consents = [(START, "email:offers", True)]
    compiled = program(rule)
    facts = Facts(member_of(person), "m1", START + 2000)
    found = [(leaf.pointer, leaf.test(facts)[0], leaf.inputs(facts)) for leaf in compiled.leaves]
    assert found == [
        ("/and/0", False, {"count": 2}),
        ("/and/1", True, {"last": "2026-09-21T14:13:21Z"}),
        ("/and/2", False, {"value": "silver"}),
        ("/and/3", True, {"state": "granted", "entries": {"topic": "granted"}}),
    ]
