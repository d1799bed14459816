"""How long the feed gathers rows before it writes them."""

from services.insights.feed import BATCH_S, FULL_RATE, LONGEST_S, gathering


def test_many_rows_are_gathered_longer_and_few_are_not():
    assert gathering(0, 0.5) == gathering(50, 0.5) == BATCH_S
    assert gathering(10 * FULL_RATE, 2.0) == gathering(20_000, 0.0) == LONGEST_S
    assert BATCH_S < gathering(FULL_RATE * 3 // 4, 1.0) < LONGEST_S


def test_after_a_burst_it_is_back_at_once():
    assert gathering(3, LONGEST_S) == BATCH_S
