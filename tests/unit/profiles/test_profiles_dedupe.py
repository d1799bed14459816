"""A message id is remembered 7 days a sender; the first body wins."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.profiles import dedupe
from services.profiles.model import Seen
from tests.support.profiles_world import T0, World, event, uid

DAY = 86_400_000


def test_a_repeat_changes_nothing_and_the_first_body_wins() -> None:
    world = World()
    world.send(event("identify", "m1", "u1", traits={"plan": "gold"}))
    world.send(event("identify", "m1", "u1", at="2026-11-20T11:00:00Z", traits={"plan": "free"}))
    assert world.driver.drops["duplicate"] == 1
    assert world.profile(uid("u1"))["traits"] == {"plan": "gold"}


def test_other_senders_may_use_the_same_message_id() -> None:
    world = World().send(event("track", "m1", "u1", event="A"), event("track", "m1", "u2", event="A"))
    assert world.profile(uid("u1"))["events"] == world.profile(uid("u2"))["events"] == 1


def test_remembered_for_seven_days_of_receipt_and_no_longer() -> None:
    world = World()
    world.send(event("track", "m1", "u1", event="A"), time=T0)
    world.send(event("track", "m1", "u1", event="A"), time=T0 + 7 * DAY - 1_000)
    assert world.profile(uid("u1"))["events"] == 1
    world.send(event("track", "m1", "u1", event="A"), time=T0 + 7 * DAY + 1_000)
    assert world.profile(uid("u1"))["events"] == 2


def test_forgotten_ids_are_deleted() -> None:
    world = World()
    world.send(*(event("track", f"m{n}", f"u{n}", event="A") for n in range(20)))
    assert sum(k.startswith("d:") for k in world.driver.states()) == 20
    world.driver.advance(T0 + 6 * DAY)
    assert sum(k.startswith("d:") for k in world.driver.states()) == 20
    world.driver.advance(T0 + 9 * DAY)
    assert not [k for k in world.driver.states() if k.startswith(("d:", "g:"))]
    world.send(event("track", "later", "u1", event="A"))
    assert sum(k.startswith("d:") for k in world.driver.states()) == 1


def test_the_sweep_keeps_what_is_still_remembered() -> None:
    world = World()
    world.send(event("track", "m1", "u1", event="A"))
    world.driver.advance(T0 + 5 * DAY)
    world.send(event("track", "m2", "u1", event="A"))
    world.driver.advance(T0 + 9 * DAY)
    world.send(event("track", "m2", "u1", event="A"))
    assert world.driver.drops["duplicate"] == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 20)), max_size=40))
def test_a_slot_agrees_with_a_dictionary(steps: list[tuple[int, int]]) -> None:
    """Hashes are found at their own places only, whatever the bytes beside them."""
    seen: Seen | None = None
    known: dict[int, int] = {}
    now = 0
    for hours, n in steps:
        now += hours * 3_600_000
        mark = bytes([n % 3] * 7 + [n])  # many shared bytes, so that matches across borders occur
        repeat = n in known and now - known[n] < dedupe.WINDOW_MS
        admitted, _ = dedupe.admit(seen, mark, now)
        assert (admitted is None) == repeat
        if admitted is not None:
            known[n] = now
            seen = admitted
    assert seen is None or len(seen.hashes) == 2 * len(seen.times)


def test_a_full_slot_forgets_its_oldest() -> None:
    full = Seen(b"".join(n.to_bytes(8, "big") for n in range(dedupe.MAX_ENTRIES)), b"\0\0\0\1" * dedupe.MAX_ENTRIES)
    admitted, cut = dedupe.admit(full, b"newnewne", 2_000)
    assert cut and admitted is not None and len(admitted.times) == 4 * dedupe.MAX_ENTRIES
    assert dedupe.admit(admitted, (0).to_bytes(8, "big"), 2_000)[0] is not None
    assert dedupe.admit(admitted, (5).to_bytes(8, "big"), 2_000)[0] is None


def test_bytes_of_two_neighbours_are_no_message_id() -> None:
    second = 0x01010101
    seen = Seen(b"abcdefgh" + b"ijklmnop", b"\1" * 8)
    assert dedupe.admit(seen, b"efghijkl", second * 1000)[0] is not None
    assert dedupe.admit(seen, b"ijklmnop", second * 1000)[0] is None
