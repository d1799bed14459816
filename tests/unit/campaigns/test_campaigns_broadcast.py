"""A broadcast in the stage: waiting, expansion, end markers, pause, cancel."""

import pytest

from rondo_common import ids, topics
from rondo_common.clock import iso
from services.campaigns.handlers import shares
from services.campaigns.run_counts import on_their_way
from tests.support.campaigns_world import BROADCAST, START, World, member


@pytest.fixture
def world() -> World:
    return World()


def ready(world: World, members: int = 20, **body) -> None:
    """A broadcast campaign "spring" on the live segment "loyal" with so many members."""
    world.campaign("spring", {**BROADCAST, **body})
    world.define("segment", "loyal", {})
    for n in range(members):
        world.membership(member(n), "loyal")
    world.live("loyal")


def test_each_member_of_the_segment_gets_one_touch(world: World) -> None:
    ready(world, 20, expires_after="P2D", priority=7, tags=["promo"])
    world.membership(member(3), "loyal", "left")
    world.membership(member(99), "other")
    world.start("spring", "r1", segment="loyal")
    touches = world.touches("bulk")
    assert {t.member_id for t in touches} == {member(n) for n in range(20) if n != 3} and len(touches) == 19
    t = touches[0]
    assert t.touch_id == ids.touch_id("r1", "main", t.member_id, "1") and t.occurrence == "1"
    assert (t.decide_at, t.not_after) == (iso(START), iso(START + 2 * 86_400_000))
    assert (t.template, t.template_version, t.version, t.channels) == ("spring", 1, 1, ["email", "sms"])
    assert (t.priority, t.tags, t.lane, t.class_) == (7, ["promo"], "bulk", "marketing")
    assert sum(s.audience for s in world.shares("r1")) == 19 and world.counts("r1") == {"pending": 19}
    ends = world.ends("bulk")
    assert sorted(e.partition for e in ends) == [0, 1] and {e.key for e in ends} == {"demo:run:r1"}
    assert all(p.status == "expanded" for p in world.parts("r1").values())


def test_one_touch_a_channel_under_all(world: World) -> None:
    ready(world, 5, channel_rule="all")
    world.start("spring", "r1", segment="loyal")
    touches = world.touches()
    assert len(touches) == 10 and sum(s.audience for s in world.shares("r1")) == 5
    expected = {ids.touch_id("r1", "main", member(0), "1", c) for c in ("email", "sms")}
    assert {t.touch_id for t in touches if t.member_id == member(0)} == expected
    assert all(len(t.channels) == 1 for t in touches)


def test_a_repeated_start_does_nothing(world: World) -> None:
    ready(world)
    world.start("spring", "r1", segment="loyal")
    world.start("spring", "r1", segment="loyal")
    assert len(world.touches()) == 20
    world.start("spring", "r2", segment="loyal")
    assert len(world.touches()) == 40


def test_it_waits_for_its_time(world: World) -> None:
    ready(world)
    due = START + 3_600_000
    world.start("spring", "r1", segment="loyal", due=iso(due))
    assert not world.touches() and world.parts("r1")[0].status == "waiting"
    world.driver.advance(due - 1)
    assert not world.touches()
    world.membership(member(50), "loyal")
    world.driver.advance(due)
    assert len(world.touches()) == 21 and {t.decide_at for t in world.touches()} == {iso(due)}


def test_it_waits_until_the_segment_is_known_under_its_newest_version(world: World) -> None:
    ready(world, 4)
    world.define("segment", "loyal", {"again": True})
    world.start("spring", "r1", segment="loyal")
    assert not world.touches()
    world.live("loyal", 1)
    assert not world.touches()
    world.live("loyal", 2)
    assert len(world.touches()) == 4


def test_merged_and_erased_members_get_none(world: World) -> None:
    ready(world, 6)
    world.merge(member(0), member(1))
    world.happened(member(2), "member.erased")
    world.start("spring", "r1", segment="loyal")
    assert {t.member_id for t in world.touches()} == {member(n) for n in (1, 3, 4, 5)}


def test_a_run_goes_on_with_the_version_it_started_with(world: World) -> None:
    ready(world)
    world.start("spring", "r1", segment="loyal", due=iso(START + 1000))
    world.campaign("spring", {**BROADCAST, "priority": 99})
    world.define("template", "spring", {"sms": {"text": "new"}})
    world.driver.advance(START + 1000)
    assert {(t.version, t.priority, t.template_version) for t in world.touches()} == {(1, 50, 2)}


def test_pause_holds_a_scheduled_run_until_resume(world: World) -> None:
    ready(world)
    world.start("spring", "r1", segment="loyal", due=iso(START + 1000))
    world.to_all(world.command("campaign.pause", campaign="spring"))
    assert world.parts("r1")[0].status == "paused"
    world.driver.advance(START + 5000)
    assert not world.touches()
    world.to_all(world.command("campaign.resume", campaign="spring"))
    assert len(world.touches()) == 20 and {t.decide_at for t in world.touches()} == {iso(START + 1000)}


def test_the_stop_switch_and_a_pause_hold_apart(world: World) -> None:
    ready(world)
    world.start("spring", "r1", segment="loyal", due=iso(START + 1000))
    world.to_all(world.command("stop.on"))
    world.to_all(world.command("campaign.pause", campaign="spring"))
    world.driver.advance(START + 1000)
    world.to_all(world.command("stop.off"))
    assert not world.touches()
    world.to_all(world.command("stop.on"))
    world.to_all(world.command("campaign.resume", campaign="spring"))
    assert not world.touches()
    world.to_all(world.command("stop.off"))
    assert len(world.touches()) == 20


def test_the_stop_switch_leaves_transactional_runs_alone(world: World) -> None:
    ready(world, **{"class": "transactional"})
    world.to_all(world.command("stop.on"))
    world.start("spring", "r1", segment="loyal")
    assert len(world.touches("transactional")) == 20 and len(world.ends("transactional")) == 2


def test_cancel_ends_a_scheduled_run_for_good(world: World) -> None:
    ready(world)
    world.start("spring", "r1", segment="loyal", due=iso(START + 1000))
    world.to_all(world.command("campaign.cancel", campaign="spring"))
    world.start("spring", "r2", segment="loyal")
    world.driver.advance(START + 5000)
    world.live("loyal", 2)
    assert {t.run_id for t in world.touches()} == {"r2"}
    assert {p.status for p in world.parts("r1").values()} == {"cancelled"}


def test_cancelled_touches_become_skipped(world: World) -> None:
    ready(world, 3)
    world.start("spring", "r1", segment="loyal")
    first, second, third = world.touches()
    world.decide(first, "send")
    world.to_all(world.command("campaign.cancel", campaign="spring"))
    world.deliver(first, "cancelled")
    world.decide(second, "skip", "campaign_cancelled")
    world.decide(third, "skip", "campaign_cancelled")
    assert world.counts("r1") == {"skipped": 3}
    reasons = [p.reasons.get("skipped", {}) for p in world.parts("r1").values()]
    assert sum(r.get("campaign_cancelled", 0) for r in reasons) == 3
    assert {p.status for p in world.parts("r1").values()} == {"cancelled"}


def test_expansion_stays_a_little_ahead_of_delivery(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "AHEAD", 3)
    ready(world, 60)
    world.start("spring", "r1", segment="loyal")
    done = 0
    while len(world.touches()) > done:
        assert all(on_their_way(s) <= 3 + 8 for s in world.shares("r1")), (
            "three, and the part in which they were passed"
        )
        touch = world.touches()[done]
        world.decide(touch, "send")
        world.deliver(touch, "accepted")
        done += 1
    assert done == 60 and world.counts("r1") == {"sent": 60} and len(world.ends("bulk")) == 2


def test_a_finished_run_leaves_the_globals(world: World) -> None:
    ready(world, 3)
    world.start("spring", "r1", segment="loyal")
    assert any(k.startswith("g:run:") for k in world.driver.states())
    for t in world.touches():
        world.decide(t, "send")
        world.deliver(t, "accepted")
    assert not any(k.startswith("g:run:") for k in world.driver.states())
    assert world.counts("r1") == {"sent": 3}
    parts = world.parts("r1").values()
    assert sum(p.counts.get("sent", 0) for p in parts) == 3 and sum(p.touches for p in parts) == 3


def test_parts_are_published_within_a_second(world: World) -> None:
    ready(world, 4)
    world.start("spring", "r1", segment="loyal")
    world.driver.take(topics.RUNS)
    touches = world.touches()
    world.decide(touches[0], "send")
    assert not world.driver.emitted(topics.RUNS) or len(touches) == 1
    world.driver.advance(START + 1000)
    assert [e.value.counts.get("queued") for e in world.driver.emitted(topics.RUNS)] == [1]


def test_a_start_that_names_an_unknown_version_is_a_dead_letter(world: World) -> None:
    ready(world)
    world._versions["campaign", "spring"] = 9
    world.start("spring", "r1", segment="loyal")
    assert {d.reason for d in world.driver.dead} == {"unknown_version"}
