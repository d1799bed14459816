"""The oracle of the stress runs must see what it is there to see."""

from collections import Counter
from typing import Any

import pytest

from tests.stress import eye, load, registry
from tests.stress.eye import Seen
from tests.stress.provider import faults
from tests.stress.provider.faults import Plan
from tests.stress.registry import Outcome


class _Api:
    workspace = "w"


def _done(events: int = 40) -> tuple[load.Load, Seen]:
    """A load that was accepted whole, and a world in which everything came of it."""
    made = load.Load(_Api(), "t", events, 1)  # type: ignore[arg-type]
    made.answers.accepted = set(made.ids)
    seen = Seen(
        logged=Counter(made.ids),
        applied=Counter(made.counted()),
        counts=dict(made.counts),
        segments={p.user: {load.BUYERS} for p in made.people if p.buyer},
    )
    return made, seen


def _send(touch: str, verdict: str = "send") -> dict[str, Any]:
    return {"touch_id": touch, "verdict": verdict, "campaign": "c", "member_id": "m", "channel": "sms"}


def test_a_load_has_exactly_the_events_asked_for_and_knows_what_comes_of_them() -> None:
    made, seen = _done(137)
    assert len(made.ids) == 137
    assert all(sum(c.values()) for c in made.counts.values())
    assert any(p.buyer for p in made.people) and not all(p.buyer for p in made.people)
    assert eye.events(made, seen).good


def test_what_is_not_in_the_log_is_lost() -> None:
    made, seen = _done()
    del seen.logged[next(iter(made.ids))]
    assert eye.events(made, seen).lost >= 1


def test_what_has_no_effect_is_lost() -> None:
    made, seen = _done()
    del seen.applied[next(iter(made.counted()))]
    assert eye.events(made, seen).lost == 1


def test_a_second_effect_is_a_repeat_but_a_second_log_entry_is_not() -> None:
    made, seen = _done()
    some = next(iter(made.counted()))
    seen.logged[some] += 1
    assert eye.events(made, seen).good
    seen.applied[some] += 1
    assert eye.events(made, seen).repeated == 1


def test_wrong_counts_and_segments_are_wrong() -> None:
    made, seen = _done()
    user = next(u for u in made.counts if made.counts[u])
    seen.counts = {**seen.counts, user: Counter()}
    seen.segments = {}
    assert len(eye.events(made, seen).wrong) == 2


@pytest.mark.parametrize(
    ("outcomes", "taken", "lost", "repeated", "unknown", "wrong"),
    [
        ({"t": "sent"}, {"t": 1}, 0, 0, 0, 0),
        ({}, {}, 1, 0, 0, 0),
        ({"t": "sent"}, {}, 1, 0, 0, 0),
        ({"t": "sent"}, {"t": 2}, 0, 1, 0, 0),
        ({"t": "unknown"}, {"t": 1}, 0, 0, 1, 0),
        ({"t": "failed"}, {"t": 1}, 0, 0, 0, 1),
    ],
)
def test_sends_are_held_against_what_the_provider_took(
    outcomes: dict[str, str], taken: dict[str, int], lost: int, repeated: int, unknown: int, wrong: int
) -> None:
    seen = Seen(verdicts={"t": _send("t"), "s": _send("s", "skip")}, outcomes=outcomes, taken=Counter(taken))
    out = eye.sends(seen)
    assert (out.lost, out.repeated, out.unknown, len(out.wrong)) == (lost, repeated, unknown, wrong)


def test_unknown_is_good_up_to_its_bound() -> None:
    assert Outcome(1, unknown=2, bound=2).good
    assert not Outcome(1, unknown=3, bound=2).good


def test_all_cases_of_the_list_are_there_and_share_the_events() -> None:
    cases = registry.load()
    assert set(cases) >= {str(n) for n in (*range(1, 19), *range(22, 30), 40)}
    sizes = registry.sizes(cases, 200_000)
    shared = sum(sizes[n] for n, c in cases.items() if c.share)
    assert 195_000 <= shared <= 205_000
    alone = [c.alone for c in cases.values()]
    assert alone == sorted(alone), "those with servers of their own come last"


def test_the_providers_fates_have_their_shares_and_are_the_same_each_time() -> None:
    plan = Plan(shares=faults.THIRTEEN_PERCENT, seed=7)
    fates = [plan.decide(f"touch-{n}", 1, 0.0) for n in range(20_000)]
    assert fates == [plan.decide(f"touch-{n}", 1, 9.0) for n in range(20_000)]
    bad = sum(f != faults.TAKE for f in fates) / len(fates)
    assert 0.12 < bad < 0.14
    assert set(fates) == {faults.TAKE, *faults.THIRTEEN_PERCENT}


def test_a_limit_lets_its_rate_through() -> None:
    plan = Plan(limit=10)
    taken = sum(plan.decide("t", n, 100 + n / 100) == faults.TAKE for n in range(500))
    assert 55 <= taken <= 61
