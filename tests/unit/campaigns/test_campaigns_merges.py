"""What happens in campaigns when two members turn out to be one."""

import pytest

from rondo_common import ids
from rondo_common.partition import partition_of
from tests.support.campaigns_world import BROADCAST, START, TRIGGERED, WORKSPACE, World, member

MINUTE = 60_000


def apart(partitions: int = 4) -> tuple[str, str, str]:
    """Three members in three partitions."""
    found: dict[int, str] = {}
    for n in range(200):
        found.setdefault(partition_of(ids.member_key(WORKSPACE, member(n)), partitions), member(n))
    return found[0], found[1], found[2]


@pytest.fixture
def world() -> World:
    return World(partitions=4)


LOSER, WINNER, LAST = apart()


def open_run(world: World, **body) -> None:
    world.campaign("cart", {**TRIGGERED, **body})
    world.start("cart", "r1", "triggered")


def test_a_delayed_trigger_goes_to_the_winner(world: World) -> None:
    open_run(world, trigger={"event": "Cart Abandoned", "delay": "PT30M"})
    world.track(LOSER, "Cart Abandoned")
    world.driver.advance(START + 10 * MINUTE)
    world.merge(LOSER, WINNER)
    assert not world.driver.timers(f"m:demo:{LOSER}")
    world.driver.advance(START + 30 * MINUTE)
    assert [t.member_id for t in world.touches()] == [WINNER]


def test_it_goes_on_over_a_chain_of_merges(world: World) -> None:
    open_run(world, trigger={"event": "Cart Abandoned", "delay": "PT30M"})
    world.happened(WINNER, "member.merged", merged_into=LAST)
    world.track(LOSER, "Cart Abandoned")
    world.merge(LOSER, WINNER)
    world.driver.advance(START + 30 * MINUTE)
    assert [t.member_id for t in world.touches()] == [LAST]


def test_reentry_is_remembered_over_a_merge(world: World) -> None:
    open_run(world, reentry="once")
    world.track(LOSER, "Cart Abandoned")
    world.merge(LOSER, WINNER)
    world.track(WINNER, "Cart Abandoned")
    assert [t.member_id for t in world.touches()] == [LOSER]


def test_once_holds_for_two_delayed_triggers_that_meet(world: World) -> None:
    open_run(world, reentry="once", trigger={"event": "Cart Abandoned", "delay": "PT30M"})
    world.track(LOSER, "Cart Abandoned")
    world.driver.advance(START + MINUTE)
    world.track(WINNER, "Cart Abandoned")
    world.merge(LOSER, WINNER)
    world.driver.advance(START + 60 * MINUTE)
    (touch,) = world.touches()
    assert touch.member_id == WINNER and touch.decide_at.endswith("43:20Z"), "the one entered first, 30 min after"


def test_an_api_trigger_of_a_merged_member_reaches_the_winner(world: World) -> None:
    world.campaign("cart", {**TRIGGERED, "trigger": {"api": True}})
    world.merge(LOSER, WINNER)
    world.trigger("cart", "r1", LOSER)
    assert [t.member_id for t in world.touches()] == [WINNER]
    assert sum(s.handled for s in world.shares("r1")) == 1


def test_the_same_move_again_changes_nothing(world: World) -> None:
    open_run(world, trigger={"event": "Cart Abandoned", "delay": "PT30M"})
    world.track(LOSER, "Cart Abandoned")
    from rondo_common import topics

    headers = {"ce_id": "merge-1"}
    from rondo_common.clock import iso
    from rondo_common.records import MemberEvent

    event = MemberEvent(WORKSPACE, LOSER, "member.merged", "merge-1", iso(START), merged_into=WINNER)
    world.driver.feed(topics.MEMBER_EVENTS, ids.member_key(WORKSPACE, LOSER), event, headers=headers)
    moves = world.driver.take(topics.MOVES)
    world.driver.feed_emitted(moves)
    before = world.driver.states()
    world.driver.feed_emitted(moves)
    assert world.driver.states() == before


@pytest.mark.parametrize("known_first", [True, False])
def test_reports_under_the_winner_count_where_the_touch_was_written(world: World, known_first: bool) -> None:
    """The gate and delivery speak of a loser's touch from the winner's partition, perhaps before this
    stage has heard of the merge."""
    world.campaign("spring", BROADCAST)
    world.define("segment", "loyal", {})
    world.membership(LOSER, "loyal")
    world.live("loyal")
    world.start("spring", "r1", segment="loyal")
    (touch,) = world.touches()
    world.decide(touch, "defer", "quiet_hours")
    if known_first:
        world.merge(LOSER, WINNER)
    world.decide(touch, "send", attempt=2, member_id=WINNER)
    world.deliver(touch, "accepted", attempt=2, member_id=WINNER)
    if not known_first:
        assert world.counts("r1") == {"deferred": 1}
        world.merge(LOSER, WINNER)
    assert world.counts("r1") == {"sent": 1}
    assert sum(s.touches for s in world.shares("r1")) == 1


def test_reports_pass_two_merges(world: World) -> None:
    world.campaign("cart", {**TRIGGERED, "trigger": {"api": True}})
    world.trigger("cart", "r1", LOSER)
    (touch,) = world.touches()
    world.merge(LOSER, WINNER)
    world.merge(WINNER, LAST)
    world.decide(touch, "skip", "expired", member_id=LAST)
    assert world.counts("r1") == {"skipped": 1}
