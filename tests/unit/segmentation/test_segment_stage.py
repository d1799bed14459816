"""The stage: whatever the order of arrival, memberships end as the oracle says; timers, sweeps, corrections."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import Command, Contact, Delivery, Suppression
from services.segmentation.model import count_key, live_key
from tests.support import segment_oracle as oracle
from tests.support.segment_oracle import Person
from tests.support.segment_records import WORKSPACE, member_event, raw, records, track
from tests.support.segment_stage import Segmentation
from tests.support.segment_strategies import START, STEP, people, rules

DAY = 86_400_000
BOUGHT = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 1}}
LOYAL = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
LAPSED = {"event": {"name": "Bought", "measure": "last", "operator": "before", "value": {"ago": "P60D"}}}


@settings(max_examples=60, deadline=None)
@given(st.lists(rules, min_size=1, max_size=3), people(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_memberships_end_as_the_oracle_says_whatever_the_order_of_arrival(some, person, rnd, put_after):
    """Facts arrive early, in time, late, twice; segments nest one another and come in the middle."""
    segments = {f"s{i}": rule for i, rule in enumerate(some)}
    segments["nest"] = {"or": [{"segment": {"id": "s0"}}, {"not": {"segment": {"id": f"s{len(some) - 1}"}}}]}
    start = START - 20 * STEP
    stage = Segmentation(start, partitions=1)
    arrivals = [(max(start, at + rnd.choice((0, 0, 0, -STEP, STEP, 3 * STEP))), t, r) for at, t, r in records(person)]
    arrivals += rnd.sample(arrivals, min(2, len(arrivals)))
    arrivals.append((start, topics.MEMBER_EVENTS, member_event("m1", "member.created", "new", start)))
    rnd.shuffle(arrivals)
    arrivals.sort(key=lambda a: a[0])
    for n, (arrival, topic, record) in enumerate(arrivals):
        if n == put_after:
            for id, rule in segments.items():
                stage.put(id, rule)
        stage.driver.advance(arrival)
        stage.feed(topic, record)
    if put_after >= len(arrivals):
        for id, rule in segments.items():
            stage.put(id, rule)
    for end in (START + 16 * STEP, START + 20 * STEP + 1, START + 60 * STEP):
        stage.driver.advance(end)
        expected = {id for id, rule in segments.items() if oracle.holds(rule, person, end, segments)}
        assert stage.inside() == expected


def loyal_member(stage: Segmentation, *times: int) -> None:
    for i, at in enumerate(times):
        stage.driver.advance(max(at, stage.driver.now))
        stage.feed(topics.MEMBER_EVENTS, track("m1", f"e{i}", at, "Bought"))


def test_membership_flips_at_exactly_the_ms_of_its_timer():
    stage = Segmentation()
    stage.put("loyal", LOYAL)
    loyal_member(stage, START, START + DAY, START + 2 * DAY)
    assert stage.inside() == {"loyal"}
    due = START + 90 * DAY
    assert stage.driver.timers() == {"m:demo:m1": {"loyal": due}}
    stage.driver.advance(due - 1)
    assert stage.inside() == {"loyal"}
    stage.driver.advance(due + 12_345)
    assert stage.inside() == set()
    entered, left = stage.changes()
    assert (entered.at, entered.recorded_at, entered.cause) == (iso(START + 2 * DAY), iso(START + 2 * DAY), "e2")
    assert (left.at, left.recorded_at, left.cause) == (iso(due), iso(due), "timer")
    assert stage.driver.timers() == {}


def test_silence_makes_a_member_lapse_and_a_purchase_moves_the_timer():
    stage = Segmentation()
    stage.put("lapsed", LAPSED)
    loyal_member(stage, START)
    stage.driver.advance(START + 59 * DAY)
    stage.feed(topics.MEMBER_EVENTS, track("m1", "again", START + 59 * DAY, "Bought"))
    stage.driver.advance(START + 119 * DAY)
    assert stage.inside() == set()
    stage.driver.advance(START + 119 * DAY + 1)
    assert stage.inside() == {"lapsed"}
    assert stage.changes()[0].at == iso(START + 119 * DAY + 1)


def test_a_late_event_is_written_with_its_own_instant():
    stage = Segmentation()
    stage.put("loyal", LOYAL)
    loyal_member(stage, START, START + 10 * DAY)
    stage.driver.advance(START + 20 * DAY)
    stage.feed(topics.MEMBER_EVENTS, track("m1", "late", START + 5 * DAY, "Bought", historical=True))
    (entered,) = stage.changes()
    assert (entered.at, entered.recorded_at) == (iso(START + 10 * DAY), iso(START + 20 * DAY))
    assert entered.historical
    # one more, earlier still: the membership began earlier than was known, nobody enters twice
    stage.feed(topics.MEMBER_EVENTS, track("m1", "later", START + 4 * DAY, "Bought"))
    assert stage.state().inside["loyal"].since == START + 5 * DAY
    assert len(stage.changes()) == 1
    assert stage.driver.emitted(topics.MEMBERSHIPS)[-1].value.segments["loyal"].entered_at == iso(START + 5 * DAY)


def test_an_event_later_than_now_counts_when_its_time_has_come():
    stage = Segmentation()
    stage.put("bought", BOUGHT)
    stage.feed(topics.MEMBER_EVENTS, track("m1", "soon", START + 4000, "Bought"))
    assert stage.inside() == set()
    stage.driver.advance(START + 4000)
    assert stage.inside() == {"bought"}


def test_repeats_change_nothing():
    stage = Segmentation()
    stage.put("twice", {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 2}})
    sent = {"message": {"action": "sent", "measure": "count", "operator": "gte", "value": 2}}
    stage.put("sent-twice", sent)
    for _ in range(3):
        stage.feed(topics.MEMBER_EVENTS, track("m1", "e1", START, "Bought"))
        for id in ("d1", "settled"):
            delivery = Delivery(WORKSPACE, id, "touch1", "m1", "email", "smtp", "accepted", iso(START))
            stage.feed(topics.DELIVERIES, delivery)
    assert stage.inside() == set()
    assert stage.driver.drops["nothing_new"] == 7


def test_only_affected_segments_move_and_unknown_members_are_not_counted():
    stage = Segmentation()
    stage.put("quiet", {"not": BOUGHT})
    stage.feed(topics.DELIVERIES, Delivery(WORKSPACE, "d1", "t1", "m1", "email", "smtp", "accepted", iso(START)))
    assert stage.inside() == set()
    stage.feed(topics.MEMBER_EVENTS, member_event("m1", "member.created", "c", START))
    assert stage.inside() == {"quiet"}


def test_suppression_of_another_address_leaves_the_member_reachable():
    stage = Segmentation()
    stage.put("by-mail", {"reachable": {"channel": "email"}})
    event = member_event("m1", "member.updated", "u", START, traits={"email": raw("Ann@Example.com")})
    stage.feed(topics.MEMBER_EVENTS, event)
    assert stage.inside() == {"by-mail"}
    from services.segmentation.streams import address_ids

    ours = address_ids("secret", WORKSPACE)("email", "ann@example.com")
    for address, expected in (("other", {"by-mail"}), (ours, set()), (None, set())):
        held = [Suppression("email", "bounce", iso(START), address)]
        stage.feed(topics.CONTACTS, Contact(WORKSPACE, "m1", suppressions=held))
        assert stage.inside() == expected
    stage.feed(topics.CONTACTS, Contact(WORKSPACE, "m1"))
    assert stage.inside() == {"by-mail"}


def test_a_new_segment_is_filled_by_a_sweep_that_ends_with_one_marker_a_partition():
    stage = Segmentation()
    for i in range(30):
        stage.feed(topics.MEMBER_EVENTS, track(f"m{i}", f"e{i}", START, "Bought" if i % 3 else "Visited"))
    other = track("x1", "x", START, "Bought")
    other.workspace = "other"
    stage.feed(topics.MEMBER_EVENTS, other)
    stage.driver.advance(START + DAY)
    stage.put("bought", BOUGHT)
    changes = [e.value for e in stage.driver.emitted(topics.MEMBERSHIP_CHANGES) if e.value.change == "entered"]
    assert {c.member_id for c in changes} == {f"m{i}" for i in range(30) if i % 3}
    assert {(c.at, c.recorded_at, c.historical, c.cause) for c in changes} == {
        (iso(START), iso(START + DAY), True, "backfill")
    }
    markers = stage.live("bought")
    assert Counter(e.partition for e in markers) == {0: 1, 1: 1}
    assert {e.key for e in markers} == {"demo:segment:bought"}
    assert len({e.id for e in markers}) == 2
    counts = [stage.driver.state(count_key(WORKSPACE, "bought"), p).members for p in (0, 1)]
    assert sum(counts) == 20
    assert {stage.driver.state(live_key(WORKSPACE, "bought"), p).version for p in (0, 1)} == {1}


def test_the_same_version_again_does_nothing():
    stage = Segmentation()
    stage.put("bought", BOUGHT)
    stage.activate("bought", BOUGHT, 1, 0)
    assert len(stage.live("bought")) == 2
    assert stage.driver.drops["known_version"] == 1


def test_a_new_version_while_a_sweep_runs_starts_it_again():
    stage = Segmentation(partitions=1)
    for i in range(700):  # more than one slice of a sweep
        stage.feed(topics.MEMBER_EVENTS, track(f"m{i:03}", f"e{i}", START, "Bought"))
    stage.driver.auto = False
    stage.put("bought", {"event": {"name": "Visited"}})
    stage.driver._slice(stage.driver._partition(0), "demo:bought")
    stage.put("bought", BOUGHT)
    # live meanwhile: an event is evaluated by the new version already
    stage.feed(topics.MEMBER_EVENTS, track("m690", "x", START, "Bought"))
    assert stage.inside("m690") == {"bought"} and stage.inside("m000") == set()
    stage.driver.auto = True
    stage.driver.settle()
    assert all(stage.inside(f"m{i:03}") == {"bought"} for i in (0, 1, 499, 500, 699))
    live = [e.value.version for e in stage.driver.emitted(topics.MEMBERSHIP_CHANGES) if e.value.change == "live"]
    assert live == [2]


def test_segments_that_nest_a_changed_one_follow_it():
    stage = Segmentation()
    stage.put("base", {"event": {"name": "Visited"}})
    stage.put("outer", {"not": {"segment": {"id": "base"}}})
    stage.put("outermost", {"segment": {"id": "outer"}})
    stage.feed(topics.MEMBER_EVENTS, track("m1", "e", START, "Bought"))
    assert stage.inside() == {"outer", "outermost"}
    stage.put("base", BOUGHT)
    assert stage.inside() == {"base"}


def test_a_deleted_segment_is_left():
    stage = Segmentation()
    stage.put("loyal", LOYAL)
    loyal_member(stage, START, START + 1, START + 2)
    stage.put("loyal", None)
    assert stage.inside() == set()
    left = stage.changes()[-1]
    assert (left.change, left.historical, left.cause) == ("left", True, "backfill")
    assert stage.driver.timers() == {}
    assert stage.live("loyal") and stage.driver.state(count_key(WORKSPACE, "loyal"), 0) is None
    loyal_member(stage, START + 10)
    assert stage.inside() == set()


def test_a_rule_that_no_longer_holds_ends_the_membership_now():
    stage = Segmentation()
    stage.put("s", BOUGHT)
    stage.feed(topics.MEMBER_EVENTS, track("m1", "e", START, "Bought"))
    stage.driver.advance(START + DAY)
    stage.put("s", LOYAL)
    assert stage.changes()[-1].at == iso(START + DAY)


def test_other_commands_are_not_mine():
    stage = Segmentation()
    stage.driver.feed(topics.COMMANDS, "demo:run:r1", Command("run.start", WORKSPACE, "r1", iso(START)), partition=0)
    assert stage.driver.drops["not_mine"] == 1


def test_evaluation_never_goes_back_in_time():
    """A record whose timestamp lies before what the member was last evaluated at (another topic's)."""
    stage = Segmentation()
    stage.put("loyal", LOYAL)
    loyal_member(stage, START, START + 1, START + 2)
    stage.driver.advance(START + 90 * DAY)
    assert stage.inside() == set()
    stage.feed(topics.MEMBER_EVENTS, track("m1", "old", START + 3, "Visited"), time=START + 80 * DAY)
    stage.feed(topics.MEMBER_EVENTS, track("m1", "old2", START + 4 - DAY, "Bought"), time=START + 80 * DAY)
    assert stage.inside() == set()
    assert [c.change for c in stage.changes()] == ["entered", "left"]


def test_a_timer_moves_to_an_earlier_instant_too():
    stage = Segmentation()
    stage.put("fresh", {"trait": {"field": "since", "operator": "within_last", "value": "P10D"}})
    stage.driver.advance(START + 5 * DAY)
    for n, since in ((5, START + 5 * DAY), (6, START + 2 * DAY)):
        stage.driver.advance(START + n * DAY)
        event = member_event("m1", "member.updated", f"u{n}", START + n * DAY, traits={"since": raw(iso(since))})
        stage.feed(topics.MEMBER_EVENTS, event)
    assert stage.driver.timers() == {"m:demo:m1": {"fresh": START + 12 * DAY}}


def test_person_without_facts_is_covered_by_the_oracle():
    assert oracle.holds({"not": BOUGHT}, Person(), START)
