"""Single transactional messages, and the daily cleaning."""

import json

import msgspec
import pytest

from rondo_common import ids, topics
from tests.support.campaigns_world import BROADCAST, START, World, member

DAY = 86_400_000
ANN = member(1)


@pytest.fixture
def world() -> World:
    return World()


def send(world: World, **more) -> None:
    command = world.command("send", member_id=ANN, channel="email", **more)
    world.to_member(topics.COMMANDS, ANN, command, command.id)


def inbound(world: World, **more) -> None:
    fields = {"channel": "sms", "text": "STOP", "keyword": "stop", "inbound_id": "in-1", **more}
    world.happened(ANN, "inbound.received", inbound=fields)


def test_a_send_becomes_a_transactional_touch_once(world: World) -> None:
    world.define("template", "receipt", {"email": {}})
    world.define("template", "receipt", {"email": {"subject": "2"}})
    data = msgspec.Raw(b'{"order":1}')
    send(world, id="c1", template="receipt", data=data)
    send(world, id="c1", template="receipt", data=data)
    (t,) = world.touches("transactional")
    assert (t.template, t.template_version, t.channels, t.class_) == ("receipt", 2, ["email"], "transactional")
    assert t.touch_id == ids.touch_id("transactional", "main", ANN, "c1") and json.loads(bytes(t.data)) == {"order": 1}
    world.decide(t, "send")
    world.deliver(t, "accepted")
    assert world.driver.drops["not_counted"] == 2 and not world.shares("transactional")


def test_inline_content_with_a_conversation(world: World) -> None:
    content = msgspec.Raw(b'{"sms":{"text":"At nine."}}')
    send(world, content=content, touch_id="t-1", data=msgspec.Raw(b'{"conversation_id":"c9"}'))
    (t,) = world.touches("transactional")
    assert (t.touch_id, bytes(t.content), t.conversation_id) == ("t-1", bytes(content), "c9")


def test_an_operators_reply_names_its_conversation(world: World) -> None:
    send(world, content=msgspec.Raw(b'{"sms":{"text":"At nine."}}'), touch_id="t-2", run_id="reply-c9")
    (t,) = world.touches("transactional")
    assert (t.run_id, t.conversation_id) == ("reply-c9", "c9")
    world.deliver(t, "accepted")
    assert world.driver.drops["not_counted"] == 1
    assert not any(k.startswith("a:") for k in world.driver.states())


def test_an_unknown_template_is_a_dead_letter(world: World) -> None:
    send(world, template="nope")
    assert [d.reason for d in world.driver.dead] == ["unknown_template"]


def test_a_send_to_a_merged_member_reaches_the_winner(world: World) -> None:
    world.merge(ANN, member(2))
    send(world, id="c1", content=msgspec.Raw(b'{"email":{"subject":"a","text":"b"}}'))
    (t,) = world.touches()
    assert t.member_id == member(2) and t.touch_id == ids.touch_id("transactional", "main", ANN, "c1")


def test_stop_is_confirmed_once_on_its_channel(world: World) -> None:
    inbound(world)
    inbound(world)
    inbound(world, inbound_id="in-2", channel="messaging")
    inbound(world, inbound_id="in-3", keyword=None, text="hello")
    one, two = world.touches("transactional")
    assert (one.channels, one.run_id, two.channels) == (["sms"], "stop-confirmation", ["messaging"])
    assert "unsubscribed" in json.loads(bytes(one.content))["sms"]["text"]
    assert "START" in json.loads(bytes(two.content))["messaging"]["text"]


def test_old_states_are_cleaned_away(world: World) -> None:
    send(world, content=msgspec.Raw(b'{"email":{"subject":"a","text":"b"}}'))
    world.campaign("spring", BROADCAST)
    world.define("segment", "loyal", {})
    for n in range(4):
        world.membership(member(n), "loyal")
    world.live("loyal")
    world.start("spring", "r1", segment="loyal")
    for t in world.touches("bulk")[1:]:
        world.decide(t, "skip", "expired")

    def kept(kind: str) -> int:
        return sum(k.startswith(kind) for k in world.driver.states())

    assert (kept("t:"), kept("d:")) == (3, 1), "nothing is kept of a broadcast's touch before it is decided"
    world.decide(world.touches("bulk")[0], "defer", "quiet_hours")
    assert (kept("t:"), kept("d:")) == (4, 1)
    world.driver.advance(START + 7 * DAY)
    assert (kept("t:"), kept("d:")) == (4, 1)
    world.driver.advance(START + 9 * DAY)
    assert (kept("t:"), kept("d:")) == (4, 0)
    world.driver.advance(START + 32 * DAY)
    assert kept("t:") == 1, "the one still open stays"
    assert world.counts("r1") == {"deferred": 1, "skipped": 3}
    for t in world.touches("bulk")[1:]:
        world.decide(t, "skip", "expired")
        world.engage(t, "opened")
    assert world.counts("r1") == {"deferred": 1, "skipped": 3}, "late repeats count nothing"


def test_engagement_is_counted_once_a_touch(world: World) -> None:
    world.campaign("spring", BROADCAST)
    world.trigger("spring", "r1", ANN)
    (t,) = world.touches()
    for _ in range(2):
        world.engage(t, "opened", "machine")
        world.engage(t, "clicked")
        world.deliver(t, "delivered")
        world.deliver(t, "bounced", "hard_bounce")
    (share,) = world.shares("r1")
    assert share.engagement == {"opened_machine": 1, "clicked_human": 1, "delivered": 1, "bounced": 1}
    assert world.counts("r1") == {"pending": 1}
