"""Whose sweeps go on in a batch: those of few partitions at a time, and each comes to its turn."""

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.streams.batch import Work
from rondo_common.streams.choose import Sweeping, slices
from rondo_common.streams.codec import Sweep
from rondo_common.streams.overlay import Lost
from rondo_common.streams.owned import Owned

PREFIX = "m:"


class Keys:
    """A store with so many keys in each partition, as far as sweeps ask for them."""

    def __init__(self, sizes: dict[int, int]):
        self.sizes = sizes
        self.lost: set[int] = set()

    def range(self, partition: int, position: int, prefix: str, cursor: str, count: int) -> list[str]:
        if partition in self.lost:
            raise Lost("gone")
        first = int(cursor.removeprefix(prefix)) + 1 if cursor else 0
        return [f"{prefix}{n:06d}" for n in range(first, min(first + count, self.sizes[partition]))]


class Sweeps:
    """Partitions with a sweep each, of so many keys, and what the loop would do with them."""

    def __init__(self, sizes: dict[int, int], at_most: int):
        self.store, self.sweeping = Keys(sizes), Sweeping()
        self.owned = {p: Owned(p) for p in sizes}
        for owned in self.owned.values():
            owned.position = 0
            owned.memory.sweeps = {"s": Sweep(PREFIX, b"", at_most, 0, "1")}

    @property
    def open(self) -> set[int]:
        return {p for p, owned in self.owned.items() if owned.memory.sweeps}

    def turn(self) -> list[int]:
        """One batch, as if it were committed: the partitions whose sweeps went on."""
        works = {p: Work(p, 0, owned.memory) for p, owned in self.owned.items()}
        lost = slices(works, self.owned, self.sweeping, self.store)
        assert set(lost) == self.store.lost & self.open
        touched = [p for p, w in works.items() if w.slice]
        for p in touched:
            name, sweep, keys, complete = works[p].slice
            memory = self.owned[p].memory
            memory.sweeps = {} if complete else {name: msgspec.structs.replace(sweep, cursor=keys[-1])}
        return touched


def test_large_sweeps_stay_in_two_partitions_for_a_while_and_then_go_on_to_two_others():
    sweeps = Sweeps(dict.fromkeys(range(8), 10_000), 500)
    touched = [sweeps.turn() for _ in range(8)]
    assert touched[:4] == [[0, 4]] * 4, "neighbours may be of one worker: not next to each other"
    assert touched[4:] == [[1, 5]] * 4


def test_small_sweeps_of_all_partitions_share_a_batch():
    assert Sweeps(dict.fromkeys(range(8), 50), 500).turn() == list(range(8))


def test_an_empty_sweep_ends_with_the_others():
    sweeps = Sweeps({3: 0, 5: 700}, 500)
    assert sweeps.turn() == [3, 5]
    assert sweeps.open == {5}


def test_a_partition_that_is_lost_holds_up_nobody():
    sweeps = Sweeps(dict.fromkeys(range(4), 5_000), 500)
    sweeps.store.lost = {0}
    assert sweeps.turn() == [1, 2], "0 is named lost, and its place is another's"


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 15), st.integers(1, 6_000), min_size=1), st.integers(1, 700))
def test_every_sweep_comes_to_its_end_and_none_waits_for_a_long_one(sizes: dict[int, int], at_most: int):
    sweeps = Sweeps(sizes, at_most)
    turns = Counter()
    waited = dict.fromkeys(sizes, 0)
    while open_ := sweeps.open:
        touched = sweeps.turn()
        assert touched
        turns.update(touched)
        for p in open_:
            waited[p] = 0 if p in touched else waited[p] + 1
            assert waited[p] <= len(sizes) * (Sweeping.STAY // min(at_most, Sweeping.ENOUGH) + 1)
    assert turns == {p: -(-n // at_most) for p, n in sizes.items()}, "each key was met once"
