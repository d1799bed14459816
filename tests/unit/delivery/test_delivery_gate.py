"""Consent's verdict against a second reading of the rule, waits, breaker, pace."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery import waits
from services.delivery.breaker import Breaker, Pace
from services.delivery.gate import consent

STATES = st.sampled_from(["granted", "denied"])


@given(st.dictionaries(st.sampled_from(["*", "offers", "news"]), STATES), st.sampled_from(["offers", "news"]))
def test_consent(entries: dict[str, str], topic: str) -> None:
    wanted: str | None
    if "*" in entries and entries["*"] == "denied":
        wanted = "denied"
    elif topic in entries:
        wanted = entries[topic]
    elif "*" in entries:
        wanted = entries["*"]
    else:
        wanted = None
    assert consent(entries, topic) == wanted


@settings(max_examples=200)
@given(st.integers(1, 600_000), st.uuids().map(str), st.integers(0, 50))
def test_spread_stays_within_a_quarter_and_repeats(wait: int, touch: str, calls: int) -> None:
    got = waits.spread(wait, touch, calls)
    assert max(1, wait * 3 // 4 - 1) <= got <= max(1, wait * 5 // 4 + 1)
    assert got == waits.spread(wait, touch, calls)


def test_retry_waits_end() -> None:
    assert waits.retry_wait((1000,), 1, "t", 1, None) is not None
    assert waits.retry_wait((1000,), 2, "t", 2, None) is None
    assert waits.retry_wait((1000,), 1, "t", 1, 90_000) == 90_000


@pytest.mark.parametrize(
    ("step", "class_", "askable", "wanted"),
    [
        (0, "marketing", True, waits.Next.ASK),
        (3, "marketing", True, waits.Next.REST),
        (3, "transactional", True, waits.Next.AGAIN),
        (3, "transactional", False, waits.Next.AGAIN),
        (3, "marketing", False, waits.Next.REST),
    ],
)
def test_reconcile(step: int, class_: str, askable: bool, wanted: waits.Next) -> None:
    assert waits.reconcile(step, 4, class_, askable) is wanted


def test_the_breaker_opens_probes_and_closes() -> None:
    b = Breaker(after=3, pause=1.0, longest=3.0)
    for _ in range(2):
        b.failed(0.0)
    assert b.state(0.0) == "closed"
    b.succeeded()
    for _ in range(3):
        assert b.wait(0.0) == 0.0
        b.failed(0.0)
    assert b.state(0.5) == "open" and b.wait(0.25) == 0.75
    assert b.state(1.0) == "half_open" and b.wait(1.0) == 0.0
    b.begin(1.0)
    assert b.wait(1.0) > 0.0, "one probe at a time"
    b.failed(1.1)
    assert b.state(3.0) == "open" and b.state(3.2) == "half_open", "the pause doubles"
    b.begin(3.2)
    b.failed(3.2)
    assert b.state(6.1) == "open" and b.state(6.3) == "half_open", "up to the longest"
    b.begin(6.3)
    b.gave_up()
    assert b.wait(6.3) == 0.0, "a probe that never left may be replaced"
    b.begin(6.3)
    b.succeeded()
    assert b.state(6.3) == "closed"


@settings(max_examples=100)
@given(st.floats(1, 1000), st.lists(st.floats(0, 0.5), min_size=1, max_size=50))
def test_the_pace_is_kept(rate: float, gaps: list[float]) -> None:
    pace, now, total = Pace(rate), 100.0, 0
    for gap in gaps:
        now += gap
        total += pace.take(10_000, now)
    assert total <= (now - 100.0 + 0.1) * rate + 2
    assert Pace(0.0).take(7, 1.0) == 7
