"""A run's start and its segment's live marker come on two topics: in any order of reading and of time."""

import pytest

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import MembershipChange
from tests.support.campaigns_world import BROADCAST, START, WORKSPACE, World, member


def marked(world: World, at: int) -> None:
    """The live marker of `loyal` in every partition, written at `at`."""
    for p in range(world.partitions):
        change = MembershipChange(WORKSPACE, "loyal", 1, "live", iso(at), iso(at), f"live-{p}")
        world.driver.feed(topics.MEMBERSHIP_CHANGES, f"{WORKSPACE}:segment:loyal", change, at, partition=p)


@pytest.mark.parametrize("older", [0, 40, 5_000])
def test_a_marker_written_before_the_start_but_read_after_it_begins_the_run(older: int) -> None:
    world = World()
    world.define("segment", "loyal", {"rule": {}})
    world.campaign("spring", BROADCAST)
    world.start("spring", "r1", due=iso(START), segment="loyal")
    world.membership(member(1), "loyal")
    assert not world.touches()
    marked(world, START - older)
    assert [t.member_id for t in world.touches("bulk")] == [member(1)]


def test_a_marker_from_before_the_due_time_is_no_reason_to_begin_early() -> None:
    world = World()
    world.define("segment", "loyal", {"rule": {}})
    world.campaign("spring", BROADCAST)
    world.start("spring", "r1", due=iso(START + 60_000), segment="loyal")
    world.membership(member(1), "loyal")
    marked(world, START - 40)
    assert not world.touches()
    world.driver.advance(START + 60_000)
    assert [t.member_id for t in world.touches("bulk")] == [member(1)]
