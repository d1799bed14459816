"""Links and merges, example by example; the property test beside shows that they converge."""

from itertools import pairwise

from rondo_common import topics
from rondo_common.records import Delivery, Routed
from services.profiles.model import MAX_HOPS, Member
from services.profiles.order import beats
from tests.support.profiles_world import WS, World, aid, event, uid

U, A = uid("u1"), aid("a1")


def at(second: int) -> str:
    return f"2026-11-20T10:00:{second:02d}Z"


def test_the_order_prefers_user_ids_then_the_smaller_id() -> None:
    assert beats("z", "user_id", "a", "anonymous_id") and not beats("a", "anonymous_id", "z", "user_id")
    assert beats("a", "user_id", "b", "user_id") and not beats("b", "user_id", "a", "user_id")
    assert not beats("a", "user_id", "a", "user_id")


def test_an_anonymous_member_becomes_the_known_one() -> None:
    world = World()
    world.send(event("identify", "m1", None, "a1", at=at(1), traits={"plan": "free", "city": "Nice"}))
    world.send(event("identify", "m2", "u1", "a1", at=at(2), traits={"plan": "gold"}))
    assert world.profile(U)["traits"] == {"plan": "gold", "city": "Nice"}
    merged = world.values(topics.MEMBER_EVENTS, "member.merged")
    assert [(m.member_id, m.merged_into, m.merged_from) for m in merged] == [(A, U, None), (U, None, A)]
    after = [e for e in world.values(topics.MEMBER_EVENTS) if e.member_id == U][-2:]
    assert [(e.kind, {k: bytes(v) for k, v in e.traits.items()}) for e in after] == [
        ("member.updated", {"city": b'"Nice"'}),
        ("traits.late", {"plan": b'"gold"'}),
    ]
    assert after[0].trait_times == {"city": at(1)}
    profiles = {p.member_id: p for p in world.values(topics.PROFILES)}
    assert profiles[A].merged_into == U and profiles[A].traits == {}
    assert {c.member_id: c.merged_into for c in world.values(topics.CONTACTS)} == {A: U, U: None}


def test_later_events_of_the_anonymous_sender_go_to_the_winner() -> None:
    world = World().send(event("track", "m1", "u1", "a1", event="A"), event("track", "m2", None, "a1", event="B"))
    assert world.profile(U)["event_counts"] == {"A": 1, "B": 1}
    assert world.member(A) is None, "nobody was minted from an id that was linked before its first event"


def test_a_link_is_sent_once() -> None:
    world = World().send(*(event("track", f"m{n}", "u1", "a1", event="A") for n in range(3)))
    assert len([e for e in world.seen if e.type == "profiles.link"]) == 1


def test_an_event_in_flight_to_a_merged_away_member_is_forwarded_and_its_sender_told() -> None:
    world = World().send(event("track", "m1", None, "a1", event="A"), event("track", "m2", "u1", "a1", event="A"))
    late = event("track", "m3", None, "a1", event="Late")
    world.feed(topics.ROUTED, A, Routed("event", WS, A, "cause", at(1), event=late))
    assert world.profile(U)["event_counts"] == {"A": 2, "Late": 1}


def test_a_repeated_merge_and_absorb_change_nothing() -> None:
    world = World().send(event("track", "m1", None, "a1", event="A"), event("track", "m2", "u1", "a1", event="A"))
    internal = [e for e in world.seen if e.type in ("profiles.merge", "profiles.absorb", "profiles.link")]
    before = world.driver.states()
    told = len(world.values(topics.MEMBER_EVENTS))
    world.driver.feed_emitted(internal)
    world.pump()
    assert len(world.values(topics.MEMBER_EVENTS)) == told
    assert repr_states(world.driver.states()) == repr_states(before)
    assert world.driver.drops["merged_already"] and world.driver.drops["absorbed_already"]


def repr_states(states: dict[str, object]) -> dict[str, bytes]:
    import msgspec

    return {k: msgspec.json.encode(v) for k, v in states.items()}


def test_alias_merges_two_known_members_and_sums_their_activity() -> None:
    world = World().send(event("track", "m1", "u1", event="A"), event("track", "m2", "u2", event="A"))
    world.send(event("alias", "m3", "u2", previous_id="u1", at=at(3)))
    winner, loser = sorted([U, uid("u2")])
    profile = world.profile(winner)
    assert profile["events"] == 2 and profile["event_counts"] == {"A": 2}
    assert profile["user_ids"] == ["u1", "u2"] and profile["user_id"] == "u1"
    member = world.member(loser)
    assert isinstance(member, Member) and member.merged_into == winner


def test_two_anonymous_ids_of_one_user_end_under_the_user() -> None:
    world = World().send(event("track", "m1", None, "a1", event="A"), event("track", "m2", None, "a2", event="A"))
    world.send(event("track", "m3", "u1", "a1", event="A"), event("track", "m4", "u1", "a2", event="A"))
    assert world.profile(U)["events"] == 4 and world.profile(U)["anonymous_ids"] == ["a1", "a2"]


def test_facts_that_meet_a_merged_away_member_reach_the_winner() -> None:
    world = World().send(event("track", "m1", None, "a1", event="A"), event("track", "m2", "u1", "a1", event="A"))
    bounce = Delivery(WS, "d1", "t1", A, "email", "smtp", "complained", at(5), address_id="X")
    world.feed(topics.DELIVERIES, A, bounce)
    assert world.contact(U)["suppressions"][0]["reason"] == "complaint"


def test_values_that_faulty_callers_send_for_everybody_link_nobody() -> None:
    world = World()
    for n, value in enumerate(["null", "undefined", "00000000-0000-0000-0000-000000000000", "-1", "Anonymous", ""]):
        for user in ("u1", "u2"):
            world.send(event("track", f"{user}{n}", user, value, event="A"))
            world.send(event("alias", f"{user}{n}a", user, previous_id=value))
    world.send(event("alias", "m1", "null", previous_id="u1"))
    assert [e for e in world.seen if e.type == "profiles.link"] == []
    assert world.profile(U)["events"] == 6 and world.profile(uid("u2"))["events"] == 6


def test_too_many_hops_are_a_dead_letter() -> None:
    world = World().send(event("track", "m1", None, "a1", event="A"), event("track", "m2", "u1", "a1", event="A"))
    late = event("track", "m3", None, "a1", event="Late")
    world.feed(topics.ROUTED, A, Routed("event", WS, A, "cause", at(1), event=late, hops=MAX_HOPS))
    assert [d.reason for d in world.driver.dead] == ["hops"]


def test_a_long_chain_of_merges_ends_with_every_pointer_at_the_winner() -> None:
    """Twelve users linked one to the next from the last to the first in the order: more than the hop limit."""
    users = sorted((f"x{n}" for n in range(12)), key=uid)
    world = World().send(*(event("track", f"t{u}", u, event="A") for u in users))
    for better, worse in reversed(list(pairwise(users))):
        world.send(event("alias", f"l{worse}", better, previous_id=worse))
    first = uid(users[0])
    assert world.profile(first)["events"] == 12
    assert {world.member(uid(u)).merged_into for u in users[1:]} == {first}  # type: ignore[union-attr]
    world.send(event("track", "late", users[-1], event="A"))
    assert world.profile(first)["events"] == 13 and world.driver.dead == []


def test_a_record_under_another_sender_s_key_is_refused() -> None:
    world = World()
    world.driver.strict = False
    world.driver.feed(topics.EVENTS, f"{WS}:somebody", event("track", "m1", "u1", event="A"))
    assert [d.reason for d in world.driver.dead] == ["handler_error"]
