"""The states of one partition during one batch: what is stored, under what the batch changed.

Later inputs of a batch see what earlier ones changed (STREAMS 10). The changes reach Kafka and
Redis only when the batch commits; until then dropping the overlay takes all of them back.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rondo_common.streams.codec import GLOBALS, OFFSETS, SWEEPS, TIMERS, Codec, Offsets, Sweep, Timers, encode

Fetch = Callable[[Sequence[str]], dict[str, bytes | None]]
"""Reads stored states of the partition, with its position checked (STREAMS 1)."""


class Lost(Exception):
    """The stored states can't be used now: the position is another one, or Redis does not answer."""


class Unreadable(Lost):
    """A stored state is none. Redis is only a view: the log may well have it right."""

    def __init__(self, key: str, why: Exception):
        super().__init__(f"state {key!r} can't be read: {why}")
        self.key = key


class Memory:
    """What the loop keeps of a partition between batches. Rebuilt by a restore. `unreadable`: states that could
    not be read even when the view was made anew from the log."""

    def __init__(self, unreadable: Collection[str] = ()) -> None:
        self.unreadable = unreadable
        self.globals: dict[str, Any] = {}
        self.sweeps: dict[str, Sweep] = {}
        """By name."""
        self.offsets: Offsets = {}
        """Where to read on, with the records that were passed over since the states last said so."""
        self.passed = 0
        """How many those are."""
        self.timers = 0
        """Owners with timers."""
        self.next_due: int | None = None
        """When the earliest timer comes due (ms)."""
        self._sorted: dict[str, list[tuple[str, Any]]] = {}

    def put(self, key: str, value: Any) -> None:
        """Set or (None) remove a state that is kept in memory."""
        if key == OFFSETS:
            self.offsets = value
            return
        into = self.globals
        if key.startswith(SWEEPS):
            into, key = self.sweeps, key[len(SWEEPS) :]
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value
        self._sorted.clear()

    def pass_over(self, offsets: Mapping[str, int], count: int) -> None:
        """`count` records up to `offsets` changed nothing: the next states that are written say so too."""
        self.offsets = self.offsets | offsets
        self.passed += count

    def reached(self, offsets: Mapping[str, int]) -> None:
        """The stored states hold everything up to `offsets`."""
        self.offsets = self.offsets | offsets
        self.passed = 0

    def sorted_globals(self, prefix: str) -> list[tuple[str, Any]]:
        """Globals whose key starts with `prefix`, in key order; kept until one changes."""
        found = self._sorted.get(prefix)
        if found is None:
            found = sorted((k, v) for k, v in self.globals.items() if k.startswith(prefix))
            self._sorted[prefix] = found
        return found


class Overlay:
    """The `States` that handlers see. `allowed` is set to the current input's keys."""

    def __init__(self, codec: Codec, memory: Memory, fetch: Fetch, partition: int, partitions: int):
        self.partition = partition
        self.partitions = partitions
        self.any_timers = memory.timers > 0
        """Whether any owner of the partition can have timers."""
        self.allowed: Collection[str] = ()
        self.stored: dict[str, bytes | None] = {}
        self.changed: dict[str, Any] = {}
        """Key -> new value; None deletes. Timers and sweeps are here too."""
        self._current: dict[str, Any] = {}
        self._codec = codec
        self._memory = memory
        self._globals = memory.globals
        self._fetch = fetch
        self._globals_changed = False

    # what handlers call

    def get(self, key: str) -> Any:
        if key[:2] == "g:":
            if self._globals_changed and key in self.changed:
                return self.changed[key]
            return self._globals.get(key)
        if key not in self.allowed:
            raise KeyError(f"state {key!r} was not named by touches()")
        current = self._current
        return current[key] if key in current else self.value(key)

    def globals(self, prefix: str = GLOBALS) -> Iterator[tuple[str, Any]]:
        if not self._globals_changed:
            return iter(self._memory.sorted_globals(prefix))
        seen = {k: v for k, v in self._memory.globals.items() if k.startswith(prefix)}
        seen.update((k, v) for k, v in self.changed.items() if k.startswith(GLOBALS) and k.startswith(prefix))
        return iter(sorted((k, v) for k, v in seen.items() if v is not None))

    # what the batch calls

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that have to be read first."""
        stored, changed = self.stored, self.changed
        return [k for k in keys if k not in stored and k not in changed and k[:2] != "g:" and k[:3] != "~s:"]

    def require(self, keys: Iterable[str]) -> None:
        """Read what is missing of `keys` now. Most were read for the whole batch in one go; this is
        for the few that only show while deciding (timers set by this very batch)."""
        stored = self.stored
        for key in keys:
            if key not in stored:
                missing = self.missing(keys)
                if missing:
                    stored.update(self._fetch(missing))
                return

    def value(self, key: str) -> Any:
        """Current value of a state that was read, whatever the input may see."""
        current = self._current
        if key in current:
            return current[key]
        raw = self.stored[key]
        try:
            found = current[key] = None if raw is None else self._codec.decode(key, raw)
        except ValueError as e:  # msgspec's errors are of this kind
            if key in self._memory.unreadable:
                raise
            raise Unreadable(key, e) from e
        return found

    def put(self, key: str, value: Any) -> None:
        self._current[key] = self.changed[key] = value
        if key[:2] == GLOBALS:
            self._globals_changed = True
        elif key[:3] == TIMERS:
            self.any_timers = True

    def timers(self, owner: str) -> Timers | None:
        """The owner's timers, None without any."""
        key = TIMERS + owner
        if key not in self._current:
            if not self._memory.timers:
                return None
            self.require((key,))
        return self.value(key)

    def sweep(self, name: str) -> Sweep | None:
        key = SWEEPS + name
        return self.changed[key] if key in self.changed else self._memory.sweeps.get(name)

    def encoded(self) -> dict[str, bytes | None]:
        """What the batch changed, as bytes; states that ended as they were are left out."""
        result: dict[str, bytes | None] = {}
        stored = self.stored
        for key, value in self.changed.items():
            raw = None if value is None else encode(value)
            if key not in stored or stored[key] != raw:
                result[key] = raw
        return result
