"""Traits: last writer wins by event time; what changed is told, late values are history."""

import json
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common import topics
from services.profiles.model import MAX_TRAIT_BYTES, MAX_TRAITS
from tests.support.profiles_world import World, event, raw, uid

U = uid("u1")


def at(second: int) -> str:
    return f"2026-11-20T10:00:{second:02d}Z"


values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["x", "y", ""]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("pq"), values), min_size=1, max_size=5))
def test_any_order_of_arrival_ends_with_the_latest_value(said: list[tuple[int, str, object]]) -> None:
    best: dict[str, tuple[int, str]] = {}
    for second, name, value in said:
        best[name] = max(best.get(name, (-1, "")), (second, json.dumps(value)))
    want = {name: json.loads(text) for name, (_, text) in best.items() if text != "null"}
    for order in list(permutations(range(len(said))))[::11]:
        world = World()
        for n in order:
            second, name, value = said[n]
            world.send(event("identify", f"m{n}", "u1", at=at(second), traits={name: value}))
        assert world.profile(U).get("traits", {}) == want


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), values), min_size=1, max_size=6))
def test_a_reader_who_orders_by_time_ends_with_the_same_value(said: list[tuple[int, object]]) -> None:
    """Segmentation keeps trait history from member events: its latest entry is the present value."""
    world = World()
    for n, (second, value) in enumerate(said):
        world.send(event("identify", f"m{n}", "u1", at=at(second), traits={"p": value}))
    history: dict[str, object] = {}
    for e in world.values(topics.MEMBER_EVENTS):
        if e.kind in ("member.updated", "traits.late"):
            when = (e.trait_times or {}).get("p", e.timestamp)
            history[when] = json.loads(bytes(e.traits["p"]))
    present = world.profile(U).get("traits", {}).get("p")
    assert (history[max(history)] if history else None) == present


def test_only_changed_traits_are_told() -> None:
    world = World()
    world.send(event("identify", "m1", "u1", at=at(1), traits={"plan": "gold", "city": "Nice"}))
    world.send(event("identify", "m2", "u1", at=at(2), traits={"plan": "gold", "city": None, "new": None}))
    updates = world.values(topics.MEMBER_EVENTS, "member.updated")
    assert [{k: bytes(v) for k, v in u.traits.items()} for u in updates] == [
        {"plan": b'"gold"', "city": b'"Nice"'},
        {"city": b"null"},
    ]
    assert world.profile(U)["traits"] == {"plan": "gold"}


def test_a_removed_trait_stays_removed_for_older_values() -> None:
    world = World()
    world.send(event("identify", "m1", "u1", at=at(5), traits={"plan": None}))
    world.send(event("identify", "m2", "u1", at=at(3), traits={"plan": "gold"}))
    assert "traits" not in world.profile(U)
    late = world.values(topics.MEMBER_EVENTS, "traits.late")
    assert bytes(late[0].traits["plan"]) == b'"gold"' and late[0].timestamp == at(3)
    assert bytes(late[1].traits["plan"]) == b"null" and late[1].trait_times == {"plan": at(5)}
    assert world.values(topics.MEMBER_EVENTS, "member.updated") == []


def test_traits_of_the_context_count_and_yield_to_those_of_the_call() -> None:
    world = World()
    world.send(event("track", "m1", "u1", event="Visited", context={"traits": {"plan": "free"}, "ip": "::1"}))
    assert world.profile(U)["traits"] == {"plan": "free"}
    world.send(event("identify", "m2", "u1", at=at(9), traits={"plan": "gold"}, context={"traits": {"plan": "x"}}))
    assert world.profile(U)["traits"] == {"plan": "gold"}


def test_limits_drop_the_trait_and_say_so() -> None:
    world = World()
    world.send(event("identify", "m1", "u1", traits={"big": "x" * MAX_TRAIT_BYTES, "small": 1}))
    assert world.driver.drops["trait_too_large"] == 1
    assert world.profile(U)["traits"] == {"small": 1}
    many = {f"t{n:03d}": n for n in range(MAX_TRAITS + 5)}
    world.send(event("identify", "m2", "u1", at=at(1), traits={**many, "email": "a@b.c", "small": 2}))
    found = world.profile(U)["traits"]
    assert world.driver.drops["too_many_traits"] == 6
    assert len(found) == MAX_TRAITS + 1 and found["email"] == "a@b.c" and found["small"] == 2


def test_traits_that_are_no_object_are_dropped_and_the_event_kept() -> None:
    world = World()
    e = event("track", "m1", "u1", event="Visited")
    e.context = raw({"traits": ["plan"]})
    world.send(e)
    assert world.driver.drops["invalid_traits"] == 1
    assert world.profile(U)["events"] == 1


def test_groups_are_listed_and_told() -> None:
    world = World()
    world.send(
        event("group", "m1", "u1", group_id="g2", traits={"seats": 3}), event("group", "m2", "u1", group_id="g1")
    )
    assert world.profile(U)["groups"] == ["g1", "g2"]
    told = world.values(topics.MEMBER_EVENTS, "group")
    assert [(e.name, e.properties and bytes(e.properties)) for e in told] == [("g2", b'{"seats":3}'), ("g1", None)]
    assert "traits" not in world.profile(U)


def test_activity_counts_tracks_pages_and_screens() -> None:
    world = World()
    for n, (kind, name) in enumerate(
        [("track", "A"), ("page", "Home"), ("track", "A"), ("screen", "S"), ("page", "B")]
    ):
        world.send(event(kind, f"m{n}", "u1", at=at(9 - n), event=name))
    profile = world.profile(U)
    assert profile["events"] == 5 and profile["event_counts"] == {"A": 2, "$page": 2, "$screen": 1}
    assert (profile["first_seen"], profile["last_seen"]) == (at(5), at(9))


def test_created_comes_once_and_ids_of_member_events_are_derived_once() -> None:
    def run() -> list[str]:
        world = World()
        world.send(event("identify", "m1", "u1", traits={"plan": "gold"}), event("track", "m2", "u1", event="Visited"))
        return [e.id for e in world.values(topics.MEMBER_EVENTS)]

    first = run()
    assert first == run() and len(set(first)) == 3
    world = World().send(event("track", "m1", "u1", event="A"), event("track", "m2", "u1", event="A"))
    assert [e.kind for e in world.values(topics.MEMBER_EVENTS)] == ["member.created", "track", "track"]
