"""What else than records goes into a batch: owners whose timers are due, and a slice of a sweep."""

from rondo_common.streams.batch import Work
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


def slice_of_a_sweep(w: Work, owned: Owned, store: Store) -> None:
    """The next slice of one of the partition's sweeps, in turn. Raises Lost as above."""
    names = sorted(owned.memory.sweeps)
    if not names:
        return
    owned.sweep_turn += 1
    name = names[owned.sweep_turn % len(names)]
    sweep = owned.memory.sweeps[name]
    keys = store.range(w.partition, owned.position, sweep.prefix, sweep.cursor, sweep.slice + 1)
    w.slice = (name, sweep, keys[: sweep.slice], len(keys) <= sweep.slice)
