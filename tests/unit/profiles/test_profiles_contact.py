"""Contact, claims on addresses, suppressions, preferences, consents, inbound messages."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import Command, Delivery, Engagement, Inbound
from services.profiles import addresses
from services.profiles.claims import holder, stated
from tests.support.profiles_world import WS, World, address, event, raw, uid

U = uid("u1")
KNOWN = {
    "email": "Ann@Example.com",
    "phone": "+33 6 12 34 56 78",
    "telegram_chat_id": 991,
    "timezone": "Europe/Paris",
    "locale": "fr-FR",
    "preferred_channel": "sms",
}


def at(second: int) -> str:
    return f"2026-11-20T10:00:{second:02d}Z"


def known() -> World:
    return World().send(event("identify", "m1", "u1", traits=KNOWN))


def inbound(id: str, text: str, keyword: str | None, **more: Any) -> Inbound:
    phone = address("phone", "+33612345678")
    return Inbound(WS, id, "sms", "twilio", "phone", phone, text, at(5), keyword=keyword, **more)


def delivery(status: str, **more: Any) -> Delivery:
    return Delivery(WS, "d1", "t1", U, "email", "smtp", status, at(5), **more)


def test_facts_are_normalised() -> None:
    contact = known().contact(U)
    assert {k: contact[k] for k in KNOWN} == {**KNOWN, "phone": "+33612345678", "telegram_chat_id": "991"}
    assert contact["user_id"] == "u1"


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("email", "no at sign"),
        ("email", 5),
        ("email", "a@b@c"),
        ("phone", "0612345678"),
        ("phone", "+1234"),
        ("phone", True),
        ("telegram_chat_id", True),
        ("telegram_chat_id", "a b"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../etc"),
        ("locale", "français"),
        ("preferred_channel", "fax"),
    ],
)
def test_what_is_not_valid_is_left_out(name: str, bad: Any) -> None:
    world = World().send(event("identify", "m1", "u1", traits={name: bad}))
    assert name not in world.contact(U)
    assert world.profile(U)["traits"] == {name: bad}, "the trait itself stays"


def test_contact_is_written_only_when_one_of_its_facts_changed() -> None:
    world = known()
    assert len(world.values(topics.CONTACTS)) == 1
    world.send(
        event("track", "m2", "u1", event="A"), event("identify", "m3", "u1", at=at(1), traits={**KNOWN, "plan": 1})
    )
    assert len(world.values(topics.CONTACTS)) == 1
    world.send(event("identify", "m4", "u1", at=at(2), traits={"locale": None}))
    assert len(world.values(topics.CONTACTS)) == 2 and world.values(topics.CONTACTS)[-1].locale is None


def test_a_new_member_without_facts_has_a_profile_and_a_contact_so_that_the_gate_knows_it() -> None:
    track = event("track", "m1", None, "a1", event="A")
    world = World().send(track, event("track", "m2", None, "a1", event="B"))
    (contact,) = world.values(topics.CONTACTS)
    assert contact.email is None and len(world.values(topics.PROFILES)) == 1


def test_profile_is_not_written_for_activity_alone() -> None:
    world = known().send(*(event("track", f"t{n}", "u1", event="A") for n in range(3)))
    assert len(world.values(topics.PROFILES)) == 1 and world.profile(U)["events"] == 3


def holds(world: World, kind: str, value: str) -> str | None:
    return holder(world.driver.states().get(f"c:{WS}:{address(kind, value)}"))


def test_an_address_belongs_to_the_newest_claim() -> None:
    world = known()
    assert holds(world, "email", "ann@example.com") == U
    world.send(event("identify", "m2", "u2", at=at(9), traits={"email": "ANN@example.com"}))
    assert holds(world, "email", "ann@example.com") == uid("u2")
    world.send(event("identify", "m3", "u2", at=at(10), traits={"email": "new@example.com"}))
    assert holds(world, "email", "ann@example.com") == U
    assert holds(world, "email", "new@example.com") == uid("u2")
    world.send(event("identify", "m4", "u1", at=at(11), traits={"email": None}))
    assert holds(world, "email", "ann@example.com") is None


def test_saying_an_address_again_is_a_newer_claim() -> None:
    """So that the holder depends on when members said it, not on which call came in first."""
    for order in ((1, 3), (3, 1)):
        world = World().send(event("identify", "m2", "u2", at=at(2), traits={"email": "ann@example.com"}))
        for second in order:
            world.send(event("identify", f"s{second}", "u1", at=at(second), traits={"email": "ann@example.com"}))
        assert holds(world, "email", "ann@example.com") == U


def test_a_claim_moves_with_a_merge() -> None:
    world = World().send(event("identify", "m1", None, "a1", traits={"email": "ann@example.com"}))
    world.send(event("track", "m2", "u1", "a1", event="A"))
    assert holds(world, "email", "ann@example.com") == U
    assert world.contact(U)["email"] == "ann@example.com"


statements = st.tuples(st.sampled_from(["m1", "m2", "m3"]), st.integers(0, 3), st.booleans())


@settings(max_examples=100, deadline=None)
@given(st.lists(statements, max_size=8), st.integers(0, 99))
def test_claims_end_the_same_in_any_order(said: list[tuple[str, int, bool]], seed: int) -> None:
    shuffled = random.Random(seed).sample(said, len(said))
    ends = []
    for order in (said, said[::-1], shuffled, said + said):
        claim = None
        for member, when, held in order:
            claim = stated(claim, member, when, held) or claim
        ends.append((holder(claim), claim and sorted(claim.members.items())))
    assert all(end == ends[0] for end in ends)


def test_stop_denies_the_channel_and_start_grants_it() -> None:
    world = known()
    key = address("phone", "+33612345678")
    world.feed(topics.INBOUND, key, inbound("i1", "STOP", "stop"))
    world.feed(topics.INBOUND, key, inbound("i1", "STOP", "stop"))
    assert world.driver.drops["duplicate"] == 1
    (entry,) = world.contact(U)["consents"]
    assert (entry["channel"], entry["topic"], entry["state"], entry["event_id"], entry["source"]) == (
        "sms",
        "*",
        "denied",
        "i1",
        "inbound",
    )
    (received,) = world.values(topics.MEMBER_EVENTS, "inbound.received")
    assert received.inbound["keyword"] == "stop" and received.user_id == "u1"
    assert [(c.channel, c.state) for c in world.values(topics.CONSENTS)] == [("sms", "denied")]
    again = inbound("i2", "start", "start")
    again.at = at(6)
    again.member_id = U
    world.feed(topics.INBOUND, U, again)
    assert world.contact(U)["consents"][0]["state"] == "granted"


def test_stop_is_about_the_number_so_every_holder_is_asked_no_more() -> None:
    world = known().send(event("identify", "m2", "u2", at=at(9), traits={"phone": "+33612345678"}))
    world.feed(topics.INBOUND, address("phone", "+33612345678"), inbound("i1", "STOP", "stop"))
    for member in (U, uid("u2")):
        (entry,) = world.contact(member)["consents"]
        assert (entry["channel"], entry["topic"], entry["state"]) == ("sms", "*", "denied")
    (received,) = world.values(topics.MEMBER_EVENTS, "inbound.received")
    assert received.member_id == uid("u2"), "the newest holder is the one who wrote"


def test_an_unknown_address_is_dropped() -> None:
    world = World().feed(topics.INBOUND, address("phone", "+33612345678"), inbound("i1", "hi", None))
    assert world.driver.drops["unknown_address"] == 1


def test_a_message_keyed_by_address_but_naming_its_member_arrives() -> None:
    world = known()
    world.feed(topics.INBOUND, address("phone", "+33612345678"), inbound("i1", "hi", None, member_id=U))
    assert len(world.values(topics.MEMBER_EVENTS, "inbound.received")) == 1


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (delivery("bounced", permanent=True, address_id="A"), "bounce"),
        (delivery("rejected", permanent=True, address_id="A"), "bounce"),
        (delivery("complained", address_id="A"), "complaint"),
    ],
)
def test_permanent_failures_suppress_their_address(record: Delivery, reason: str) -> None:
    world = known()
    for _ in range(2):
        world.feed(topics.DELIVERIES, U, record)
    assert world.contact(U)["suppressions"] == [{"channel": "email", "reason": reason, "at": at(5), "address_id": "A"}]
    assert world.driver.drops["suppressed_already"] == 1 and len(world.values(topics.CONTACTS)) == 2


def test_a_bounce_without_address_is_about_the_present_one() -> None:
    world = known().feed(topics.DELIVERIES, U, delivery("bounced", permanent=True))
    assert world.contact(U)["suppressions"][0]["address_id"] == address("email", "ann@example.com")


@pytest.mark.parametrize("status", ["accepted", "delivered", "deferred", "unknown", "bounced", "rejected"])
def test_other_outcomes_suppress_nothing(status: str) -> None:
    world = known().feed(topics.DELIVERIES, U, delivery(status, address_id="A"))
    assert "suppressions" not in world.contact(U) and world.driver.drops["not_mine"] == 1


def test_unsubscribe_denies_the_topic_or_the_channel() -> None:
    world = known()
    world.feed(topics.ENGAGEMENT, U, Engagement(WS, "e1", "unsubscribed", U, at(5), channel="email", topic="offers"))
    world.feed(topics.ENGAGEMENT, U, Engagement(WS, "e2", "unsubscribed", U, at(6), channel="sms"))
    world.feed(topics.ENGAGEMENT, U, Engagement(WS, "e3", "opened", U, at(7), channel="sms"))
    assert [(c["channel"], c["topic"], c["state"]) for c in world.contact(U)["consents"]] == [
        ("email", "offers", "denied"),
        ("sms", "*", "denied"),
    ]


def command(kind: str, data: Any, second: int = 5) -> Command:
    return Command(kind, WS, "c1", at(second), member_id=U, data=raw(data))


def test_preferences_replace_what_they_name() -> None:
    world = known()
    asked = {"tempo": {"*": "weekly"}, "quiet_hours": {"from": "20:00", "to": "09:00"}, "channels": ["sms", "email"]}
    world.feed(topics.COMMANDS, U, command("member.preferences", asked))
    world.feed(
        topics.COMMANDS,
        U,
        command("member.preferences", {"channels": None, "paused_until": "2027-01-01T00:00:00+01:00"}, 6),
    )
    contact = world.contact(U)
    assert contact["tempo"] == {"*": "weekly"} and contact["quiet_hours"] == {"from": "20:00", "to": "09:00"}
    assert "channels" not in contact and contact["paused_until"] == "2026-12-31T23:00:00Z"
    assert world.profile(U)["preferences"]["tempo"] == {"*": "weekly"}
    world.feed(topics.COMMANDS, U, command("member.preferences", {"channels": ["email"]}, 4))
    assert "channels" not in world.contact(U), "an older command changes nothing"
    world.feed(topics.ENGAGEMENT, U, Engagement(WS, "e1", "preferences", U, at(9), data=raw({"tempo": None})))
    assert "tempo" not in world.contact(U)


@pytest.mark.parametrize("bad", [{"quiet_hours": {"from": "25:00", "to": "x"}}, {"channels": ["fax"]}, {"nope": 1}, []])
def test_invalid_preferences_are_dropped(bad: Any) -> None:
    world = known().feed(topics.COMMANDS, U, command("member.preferences", bad))
    assert world.driver.drops["invalid_preferences"] == 1 and len(world.values(topics.CONTACTS)) == 1


def test_suppress_and_lift_by_command() -> None:
    world = known().feed(topics.COMMANDS, U, command("member.suppress", {"channel": "*"}))
    assert {s["channel"] for s in world.contact(U)["suppressions"]} == set(topics.CHANNELS)
    world.feed(topics.DELIVERIES, U, delivery("bounced", permanent=True, address_id="A"))
    world.feed(topics.COMMANDS, U, command("member.suppress", {"channel": "*", "suppressed": False}, 6))
    assert [s["reason"] for s in world.contact(U)["suppressions"]] == ["bounce"]
    lift = {"channel": "email", "suppressed": False, "reason": "bounce"}
    world.feed(topics.COMMANDS, U, command("member.suppress", lift, 7))
    assert "suppressions" not in world.contact(U)


def test_commands_for_others_and_unknown_members_are_dropped() -> None:
    world = known()
    world.feed(topics.COMMANDS, U, command("member.erase", {}))
    world.feed(topics.COMMANDS, U, command("campaign.pause", {}))
    nobody = command("member.preferences", {"tempo": None})
    nobody.member_id = "nobody"
    world.feed(topics.COMMANDS, "nobody", nobody)
    assert world.driver.drops == {"not_yet": 1, "not_mine": 1, "unknown_member": 1}


def consent(id: str, second: int, state: str, topic: str = "offers", **more: Any) -> Any:
    said = {"channel": "email", "topic": topic, "state": state, **more}
    return event("track", id, "u1", at=at(second), event="Consent Changed", properties=said)


def test_consent_newest_wins_and_the_ledger_keeps_all() -> None:
    world = World().send(
        consent("c1", 3, "granted", text_version="2026-01", source="form", ip="203.0.113.7"),
        consent("c2", 5, "denied"),
        consent("c3", 4, "granted"),
        consent("c4", 5, "granted"),
    )
    (entry,) = world.contact(U)["consents"]
    assert (entry["state"], entry["since"], entry["event_id"]) == ("denied", at(5), "c2"), "on a tie denied"
    ledger = world.values(topics.CONSENTS)
    assert [c.event_id for c in ledger] == ["c1", "c2", "c3", "c4"]
    assert (ledger[0].text_version, ledger[0].source, ledger[0].ip) == ("2026-01", "form", "203.0.113.7")
    kinds = [e.kind for e in world.values(topics.MEMBER_EVENTS) if e.consent]
    assert kinds == ["consent.changed", "consent.changed", "consent.late", "consent.late"]
    assert len(world.values(topics.MEMBER_EVENTS, "track")) == 4 and world.profile(U)["events"] == 4
    assert ledger[0].recorded_at == iso(world.driver.now)


@pytest.mark.parametrize(
    "bad",
    [
        {"channel": "fax", "topic": "x", "state": "granted"},
        {"channel": "sms", "topic": "x", "state": "maybe"},
        {},
        None,
    ],
)
def test_an_invalid_consent_event_is_an_ordinary_event(bad: Any) -> None:
    world = World().send(event("track", "c1", "u1", event="Consent Changed", properties=bad))
    assert world.driver.drops["invalid_consent"] == 1
    assert world.profile(U)["events"] == 1 and world.values(topics.CONSENTS) == []


def test_zones_are_the_database_s() -> None:
    assert addresses.timezone("Europe/Paris") and not addresses.timezone("europe/nowhere")
