"""Merged and erased members: histories follow to the winner in any order, and nobody is counted twice."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.ids import member_key
from rondo_common.records import Contact, Delivery, Engagement
from services.segmentation import history
from services.segmentation.model import ERASED, Member
from tests.support import segment_oracle as oracle
from tests.support.segment_oracle import Person
from tests.support.segment_records import WORKSPACE, member_event, raw, records, track
from tests.support.segment_stage import Segmentation
from tests.support.segment_strategies import NAMES, START, STEP, instants, properties, rules

TWICE = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 2}}
DAY = 86_400_000


def merged(stage: Segmentation, loser: str, winner: str) -> None:
    event = member_event(loser, "member.merged", f"merge-{loser}", stage.driver.now, merged_into=winner)
    stage.feed(topics.MEMBER_EVENTS, event)


def test_the_losers_history_counts_at_the_winner():
    stage = Segmentation()
    stage.put("twice", TWICE)
    stage.put("once", {"event": {"name": "Bought"}})
    stage.feed(topics.MEMBER_EVENTS, track("m1", "a", START, "Bought"))
    stage.feed(topics.MEMBER_EVENTS, track("m2", "b", START, "Bought"))
    stage.driver.advance(START + 1000)
    merged(stage, "m2", "m1")
    assert stage.inside("m2") == set() and stage.inside("m1") == {"once"}
    assert stage.driver.emitted(topics.MEMBERSHIPS)[-1].data is None, "a tombstone for the loser"
    moves = stage.driver.emitted(topics.MOVES)
    assert [(m.key, m.value.origin, m.value.revision) for m in moves] == [("demo:m1", "m2", 1)]
    stage.follow_moves()
    assert stage.inside("m1") == {"once", "twice"}
    stage.driver.feed_emitted(moves)
    assert stage.driver.drops["repeat"] == 1


def test_what_is_still_in_flight_to_a_merged_member_follows():
    stage = Segmentation()
    stage.put("clicked", {"message": {"action": "clicked"}})
    for m in ("m1", "m2", "m3"):
        stage.feed(topics.MEMBER_EVENTS, member_event(m, "member.created", m, START))
    merged(stage, "m3", "m2")
    merged(stage, "m2", "m1")
    stage.follow_moves()
    stage.feed(topics.ENGAGEMENT, Engagement(WORKSPACE, "g1", "clicked", "m3", iso(START)))
    stage.follow_moves()
    assert stage.inside("m1") == {"clicked"}
    assert stage.inside("m3") == set()


def test_a_circle_of_pointers_ends():
    stage = Segmentation()
    merged(stage, "m1", "m2")
    merged(stage, "m2", "m1")
    for _ in range(20):
        stage.driver.feed_emitted(stage.driver.take(topics.MOVES))
    assert not stage.driver.take(topics.MOVES)
    assert {d.reason for d in stage.driver.dead} == {"loop"}


def test_a_contact_that_says_merged_is_believed_and_said_once():
    stage = Segmentation()
    stage.put("all", {"not": {"event": {"name": "Never"}}})
    stage.feed(topics.MEMBER_EVENTS, track("m2", "b", START, "Bought"))
    stage.feed(topics.CONTACTS, Contact(WORKSPACE, "m2", merged_into="m1"))
    merged(stage, "m2", "m1")
    assert stage.inside("m2") == set()
    assert len(stage.driver.emitted(topics.MOVES)) == 1


def test_erased_members_are_forgotten_and_stay_out():
    stage = Segmentation()
    stage.put("all", {"not": {"event": {"name": "Never"}}})
    stage.feed(topics.MEMBER_EVENTS, track("m1", "b", START, "Bought"))
    stage.feed(topics.MEMBER_EVENTS, member_event("m1", "member.erased", "x", START))
    stage.feed(topics.DELIVERIES, Delivery(WORKSPACE, "d", "t", "m1", "email", "smtp", "delivered", iso(START)))
    stage.put("late", {"not": {"event": {"name": "Never"}}})
    assert stage.inside() == set()
    assert stage.state() == Member(status=ERASED, clock=START)
    assert stage.driver.emitted(topics.MEMBERSHIPS)[-1].data is None
    stage.feed(topics.MEMBER_EVENTS, track("m1", "c", START, "Visited"))
    assert stage.inside() == {"all", "late"} and set(stage.state().events) == {"Visited"}


small = st.lists(st.tuples(instants, st.sampled_from(NAMES), properties), max_size=4)


@settings(max_examples=60, deadline=None)
@given(rules, st.lists(small, min_size=3, max_size=3), st.permutations(["m1", "m2", "m3"]), st.integers(0, 99))
def test_any_order_of_merges_moves_and_events_ends_at_one_winner(rule, histories, members, seed):
    """m3 -> m2 -> m1 by pointers; records of one member stay in order of the merge, moves repeat and are
    shuffled among one another."""
    rnd = random.Random(seed)
    stage = Segmentation(START - 20 * STEP)
    stage.put("s", rule)
    everything = Person("m1")
    end = START + 16 * STEP
    stage.driver.advance(end)
    for member in members:
        person = Person(member)
        person.events = histories[int(member[1]) - 1]
        everything.events = everything.events + person.events
        stage.feed(topics.MEMBER_EVENTS, member_event(member, "member.created", "new" + member, end))
        for n, (_, topic, record) in enumerate(records(person)):
            record.id = f"{member}-{n}"
            stage.feed(topic, record)
        if member != "m1":
            merged(stage, member, f"m{int(member[1]) - 1}")
        if rnd.random() < 0.5:
            stage.driver.feed_emitted(stage.driver.take(topics.MOVES))
    while moves := stage.driver.take(topics.MOVES):
        again = [*moves, *rnd.sample(moves, rnd.randint(0, len(moves)))]
        rnd.shuffle(again)
        stage.driver.feed_emitted(again)
        assert not stage.driver.dead
    assert stage.inside("m1") == ({"s"} if oracle.holds(rule, everything, end) else set())
    assert stage.inside("m2") == stage.inside("m3") == set()


def some_member(seed: int) -> Member:
    rnd = random.Random(seed)
    member = Member()
    for i in range(rnd.randint(0, 6)):
        at = START + rnd.randint(0, 3)
        event = track("x", f"{seed}-{i}", at, rnd.choice(NAMES), {"total": i} if i % 2 else {"sku": "a"})
        member, _ = history.of_event(member, event)
        update = member_event("x", "member.updated", f"u{i}", at + 10 * seed, traits={"plan": raw(seed)})
        member, _ = history.of_event(member, update)
        sent = Delivery(WORKSPACE, f"{seed}-{i}", rnd.choice("ab"), "x", "email", "p", "accepted", iso(at))
        member, _ = history.of_delivery(member, sent)
    return member


@pytest.mark.parametrize("seed", range(20))
def test_absorbing_is_independent_of_order_and_repeats(seed):
    winner = some_member(seed)
    others = [(f"o{i}", 1, history.portable(some_member(100 + seed + i))) for i in range(3)]
    ends = []
    for order in ((0, 1, 2), (2, 0, 1, 1, 0), (1, 2, 2, 0)):
        member = winner
        for n in order:
            member = history.absorb(member, *others[n]) or member
        columns = {
            name: (s.at, s.marks, dict(sorted(s.columns.items())))
            for name, s in {**member.events, **member.messages}.items()
        }
        ends.append((columns, member.traits, member.consents, member.absorbed))
    assert ends[0] == ends[1] == ends[2]
    assert history.absorb(member, *others[0]) is None, "the same revision again"


def test_keys_of_moves_lie_with_the_winner():
    stage = Segmentation()
    stage.feed(topics.MEMBER_EVENTS, track("m9", "b", START, "Bought"))
    merged(stage, "m9", "m1")
    (move,) = stage.driver.emitted(topics.MOVES)
    assert move.key == member_key(WORKSPACE, "m1") and move.subject == "m1"
