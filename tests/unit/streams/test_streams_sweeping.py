"""Whose sweeps go on in a batch: those of few partitions at a time, and each comes to its turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rondo_common.streams.choose import Sweeping


def turn(sweeping: Sweeping, left: dict[int, int], at_most: int) -> list[int]:
    """One batch: the partitions whose sweeps went on, as `choose.slices` does it."""
    met, touched = 0, []
    for p in sweeping.turns(p for p, n in left.items() if n):
        keys = min(at_most, left[p])
        left[p] -= keys
        touched.append(p)
        sweeping.met(p, keys)
        met += keys
        if met >= Sweeping.ENOUGH:
            break
    return touched


def test_large_sweeps_stay_in_two_partitions_for_a_while_and_then_go_on_to_two_others():
    sweeping, left = Sweeping(), dict.fromkeys(range(8), 10_000)
    touched = [turn(sweeping, left, 500) for _ in range(8)]
    assert touched[:4] == [[0, 4]] * 4, "neighbours may be of one worker: not next to each other"
    assert touched[4:] == [[1, 5]] * 4


def test_small_sweeps_of_all_partitions_share_a_batch():
    assert sorted(turn(Sweeping(), dict.fromkeys(range(8), 50), 500)) == list(range(8))


def test_an_empty_sweep_ends_with_the_others():
    sweeping = Sweeping()
    assert list(sweeping.turns([3, 5])) == [3, 5]
    sweeping.met(3, 0)
    assert list(sweeping.turns([5])) == [5]


@given(st.dictionaries(st.integers(0, 15), st.integers(1, 6_000), min_size=1), st.integers(1, 700))
def test_every_sweep_comes_to_its_end_and_none_waits_for_a_long_one(sizes: dict[int, int], at_most: int):
    sweeping, left = Sweeping(), dict(sizes)
    turns = Counter()
    waited = dict.fromkeys(sizes, 0)
    while any(left.values()):
        open_ = {p for p, n in left.items() if n}
        touched = turn(sweeping, left, at_most)
        assert touched
        turns.update(touched)
        for p in open_:
            waited[p] = 0 if p in touched else waited[p] + 1
            assert waited[p] <= len(sizes) * (Sweeping.STAY // min(at_most, Sweeping.ENOUGH) + 1)
    assert sum(turns.values()) >= len(sizes)
