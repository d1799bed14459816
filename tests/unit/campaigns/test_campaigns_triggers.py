"""Triggered campaigns in the stage: by event, by membership, by the API; delays, re-entry, calling off."""

import json

import pytest

from rondo_common import ids
from rondo_common.clock import iso
from tests.support.campaigns_world import START, TRIGGERED, World, member

MINUTE = 60_000
DAY = 86_400_000
ANN = member(1)


@pytest.fixture
def world() -> World:
    return World()


def open_run(world: World, run_id: str = "r1", campaign: str = "cart", **body) -> None:
    world.campaign(campaign, {**TRIGGERED, **body})
    world.start(campaign, run_id, "triggered")


def trigger(**more) -> dict:
    return {"trigger": {"event": "Cart Abandoned", **more}}


def test_an_event_starts_it(world: World) -> None:
    open_run(world, expires_after="PT2H")
    event = world.track(ANN, "Cart Abandoned", {"total": 31.5})
    world.track(ANN, "Visited")
    (t,) = world.touches("triggered")
    assert t.touch_id == ids.touch_id("r1", "main", ANN, event) and t.occurrence == event
    assert json.loads(bytes(t.event)) == {"total": 31.5}
    assert (t.decide_at, t.not_after) == (iso(START), iso(START + 120 * MINUTE))
    assert world.counts("r1") == {"pending": 1} and not world.ends("triggered")


def test_the_occurrence_is_the_message_id(world: World) -> None:
    open_run(world)
    world.track(ANN, "Cart Abandoned", event_id="m-7")
    assert world.touches()[0].occurrence == "m-7"


def test_only_what_fulfils_where(world: World) -> None:
    open_run(world, **trigger(where=[{"property": "total", "operator": "gte", "value": 20}]))
    for total in (19.99, 20, "25", None):
        world.track(ANN, "Cart Abandoned", {"total": total})
    world.track(ANN, "Cart Abandoned")
    assert [json.loads(bytes(t.event))["total"] for t in world.touches()] == [20]


def test_historical_events_start_nothing(world: World) -> None:
    open_run(world)
    world.track(ANN, "Cart Abandoned", historical=True)
    assert not world.touches()


def test_nothing_before_its_start_and_after_its_end(world: World) -> None:
    world.campaign("cart", TRIGGERED)
    world.track(ANN, "Cart Abandoned")
    world.start("cart", "r1", "triggered")
    world.track(ANN, "Cart Abandoned")
    world.to_all(world.command("campaign.cancel", campaign="cart"))
    world.track(ANN, "Cart Abandoned")
    assert len(world.touches()) == 1 and {p.status for p in world.parts("r1").values()} == {"cancelled"}
    world.start("cart", "r2", "triggered")
    world.track(ANN, "Cart Abandoned")
    assert [t.run_id for t in world.touches()] == ["r1", "r2"]


def test_old_events_only_up_to_a_max_age(world: World) -> None:
    open_run(world, **trigger(max_age="PT1H"))
    world.track(ANN, "Cart Abandoned", timestamp=iso(START - 61 * MINUTE))
    assert not world.touches()
    world.track(ANN, "Cart Abandoned", timestamp=iso(START - 59 * MINUTE))
    assert len(world.touches()) == 1


def test_a_delay_and_what_calls_it_off(world: World) -> None:
    open_run(world, **trigger(delay="PT30M", cancel_on={"event": "Order Completed"}))
    world.track(ANN, "Cart Abandoned")
    world.track(member(2), "Cart Abandoned")
    assert not world.touches() and world.counts("r1") == {}
    world.driver.advance(START + 10 * MINUTE)
    world.track(ANN, "Order Completed")
    world.driver.advance(START + 30 * MINUTE - 1)
    assert not world.touches()
    world.driver.advance(START + 30 * MINUTE)
    (t,) = world.touches()
    assert t.member_id == member(2) and t.decide_at == iso(START + 30 * MINUTE)
    assert not world.driver.timers(f"m:demo:{ANN}")


def test_an_order_from_before_the_cart_calls_nothing_off(world: World) -> None:
    open_run(world, **trigger(delay="PT30M", cancel_on={"event": "Order Completed"}))
    world.track(ANN, "Cart Abandoned")
    world.track(ANN, "Order Completed", timestamp=iso(START - 1))
    world.driver.advance(START + 30 * MINUTE)
    assert len(world.touches()) == 1


def test_an_order_at_the_due_moment_comes_too_late(world: World) -> None:
    """A member's own timers due at or before an event fire first (STREAMS 11)."""
    open_run(world, **trigger(delay="PT30M", cancel_on={"event": "Order Completed"}))
    world.track(ANN, "Cart Abandoned")
    world.driver.auto = False
    world.driver.clock.at = START + 30 * MINUTE
    world.track(ANN, "Order Completed")
    assert len(world.touches()) == 1


def test_a_cancelled_run_drops_what_is_delayed(world: World) -> None:
    open_run(world, **trigger(delay="PT30M"))
    world.track(ANN, "Cart Abandoned")
    world.to_all(world.command("campaign.cancel", campaign="cart"))
    world.start("cart", "r2", "triggered")
    world.driver.advance(START + 60 * MINUTE)
    assert not world.touches()


@pytest.mark.parametrize(
    ("reentry", "expected"), [("always", 4), (None, 4), ("once", 1), ({"after": "P2D"}, 2), ({"after": "P1D"}, 3)]
)
def test_reentry(world: World, reentry, expected: int) -> None:
    open_run(world, **({"reentry": reentry} if reentry else {}))
    for at in (0, 1, DAY, 2 * DAY):
        world.driver.advance(START + at)
        world.track(ANN, "Cart Abandoned")
    assert len(world.touches()) == expected
    world.track(member(2), "Cart Abandoned")
    assert len(world.touches()) == expected + 1


def test_entering_and_leaving_a_segment(world: World) -> None:
    open_run(world, "in", "hello", trigger={"segment": "loyal", "on": "entered"})
    open_run(world, "out", "bye", trigger={"segment": "loyal", "on": "left"})
    world.membership(ANN, "other")
    world.membership(ANN, "loyal", historical=True)
    world.membership(member(2), "loyal", at=iso(START - DAY - 1))
    assert not world.touches()
    world.membership(member(3), "loyal", at=iso(START - DAY))
    world.membership(ANN, "loyal", "left")
    assert [(t.run_id, t.member_id) for t in world.touches()] == [("in", member(3)), ("out", ANN)]


def test_the_api_triggers_any_campaign_once_a_command(world: World) -> None:
    world.campaign("cart", {**TRIGGERED, "trigger": {"api": True}})
    command = world.trigger("cart", "r1", ANN, data={"code": "X1"})
    world.trigger("cart", "r1", ANN, id=command.id)
    world.trigger("cart", "r1", member(2), data={"code": "X2"})
    touches = world.touches("triggered")
    assert [(t.member_id, json.loads(bytes(t.data))) for t in touches] == [
        (ANN, {"code": "X1"}),
        (member(2), {"code": "X2"}),
    ]
    assert touches[0].occurrence == command.id and world.driver.drops["repeat"] == 1
    assert sum(s.handled for s in world.shares("r1")) == 2 and world.counts("r1") == {"pending": 2}
    assert not any(k.startswith("g:run:") for k in world.driver.states())


def test_an_api_trigger_may_be_delayed_and_every_one_comes_to_its_end(world: World) -> None:
    body = {"api": True, "delay": "PT10M", "cancel_on": {"event": "Order Completed"}}
    world.campaign("cart", {**TRIGGERED, "trigger": body, "reentry": "once"})
    for n in (1, 2, 2, 3):
        world.trigger("cart", "r1", member(n))
    world.track(member(1), "Order Completed")
    world.happened(member(3), "member.erased")
    assert sum(s.handled for s in world.shares("r1")) == 3
    world.driver.advance(START + 10 * MINUTE)
    assert [t.member_id for t in world.touches()] == [member(2)]
    assert sum(s.handled for s in world.shares("r1")) == 4


def test_cancel_voids_delayed_api_triggers(world: World) -> None:
    world.campaign("cart", {**TRIGGERED, "trigger": {"api": True, "delay": "PT10M"}})
    world.trigger("cart", "r1", ANN)
    world.to_all(world.command("campaign.cancel", campaign="cart"))
    world.driver.advance(START + 5 * MINUTE)
    world.start("cart", "r0", "triggered")
    world.trigger("cart", "r2", ANN)
    world.driver.advance(START + 20 * MINUTE)
    assert [t.run_id for t in world.touches()] == ["r2"]
    assert sum(s.handled for s in world.shares("r1")) == 1


def test_transactional_ones_take_the_transactional_lane(world: World) -> None:
    open_run(world, **{"class": "transactional"})
    world.track(ANN, "Cart Abandoned")
    world.trigger("cart", "r2", ANN)
    assert len(world.touches("transactional")) == 2


def test_two_open_campaigns_on_one_event(world: World) -> None:
    open_run(world, "r1", "one")
    open_run(world, "r2", "two")
    world.track(ANN, "Cart Abandoned")
    assert {t.run_id for t in world.touches()} == {"r1", "r2"}
    assert world.counts("r1") == world.counts("r2") == {"pending": 1}


def test_an_id_that_is_used_again_after_erasure_gets_messages_again(world: World) -> None:
    open_run(world, **trigger(delay="PT1M"))
    world.happened(ANN, "member.erased")
    world.happened(ANN, "member.created")
    world.track(ANN, "Cart Abandoned")
    world.driver.advance(START + MINUTE)
    assert len(world.touches()) == 1
