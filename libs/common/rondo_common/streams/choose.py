"""What else than records goes into a batch: owners whose timers are due, and a slice of a sweep."""

from collections.abc import Iterable, Mapping
from itertools import zip_longest

from rondo_common.streams.batch import Work
from rondo_common.streams.overlay import Lost
from rondo_common.streams.owned import Owned
from rondo_common.streams.store import Store


def due(w: Work, owned: Owned, store: Store, clock: int, horizon: int | None, most: int) -> None:
    """Owners whose timers may fire: due by the clock, and (`horizon`) nothing older waits to be handled.
    Raises Lost when the view is not where it should be."""
    first = owned.memory.next_due
    until = clock if horizon is None else min(clock, horizon)
    if first is None or first > until:
        return
    found = store.due(w.partition, owned.position, until, most)
    w.owners = [owner for owner, _ in found]
    w.until = found[-1][1] if len(found) == most else until


class Sweeping:
    """Whose sweeps go on in a batch: of a few partitions, then of a few others.

    What a batch writes costs the broker by the partitions written to, hardly by the records, here and in every
    stage behind it: a thousand touches of two partitions are a third of the work of as many over eight
    (docs/decisions/0022-few-partitions-at-a-time.md)."""

    ENOUGH = 1_000
    """Keys of a batch, behind which no further partition's sweep goes on in it."""
    STAY = 2_000
    """Keys of a partition, behind which it is the next one's turn although the sweep is not over."""

    def __init__(self) -> None:
        self._order: list[int] = []
        self._met: dict[int, int] = {}

    def turns(self, sweeping: Iterable[int]) -> list[int]:
        """The partitions that have a sweep, the one whose turn it is first."""
        now = set(sweeping)
        if fresh := now.difference(self._order):
            self._order = _apart(sorted(now)) if fresh == now else self._order + sorted(fresh)
        self._order = [p for p in self._order if p in now]
        return list(self._order)

    def met(self, partition: int, keys: int) -> None:
        """It met so many keys: after STAY of them it goes to the end."""
        self._met[partition] = self._met.get(partition, 0) + keys
        if self._met[partition] >= self.STAY:
            self._met[partition] = 0
            self._order.remove(partition)
            self._order.append(partition)


def _apart(partitions: list[int]) -> list[int]:
    """Neighbours, which one worker of the next stage owns, far from each other: 0 4 1 5 2 6 3 7."""
    half = (len(partitions) + 1) // 2
    pairs = zip_longest(partitions[:half], partitions[half:])
    return [p for pair in pairs for p in pair if p is not None]


def slices(works: Mapping[int, Work], owned: Mapping[int, Owned], sweeping: Sweeping, store: Store) -> dict[int, Lost]:
    """Give the batch its slices of sweeps. The partitions whose view is not where it should be, and why."""
    lost: dict[int, Lost] = {}
    met = 0
    for p in sweeping.turns(p for p in works if owned[p].memory.sweeps):
        try:
            keys = _slice(works[p], owned[p], store)
        except Lost as e:
            lost[p] = e
            continue
        sweeping.met(p, keys)
        met += keys
        if met >= Sweeping.ENOUGH:
            break
    return lost


def _slice(w: Work, owned: Owned, store: Store) -> int:
    """The next slice of one of the partition's sweeps, in turn; how many keys it has. Raises Lost as above."""
    names = sorted(owned.memory.sweeps)
    owned.sweep_turn += 1
    name = names[owned.sweep_turn % len(names)]
    sweep = owned.memory.sweeps[name]
    keys = store.range(w.partition, owned.position, sweep.prefix, sweep.cursor, sweep.slice + 1)
    w.slice = (name, sweep, keys[: sweep.slice], len(keys) <= sweep.slice)
    return len(w.slice[2])
