"""States as bytes: JSON of one msgspec Struct per state key, and the loop's own two kinds of state.

Keys that start with "~" belong to the loop. `~t:<owner>` holds an owner's timers, `~s:<name>` a
sweep and how far it has come, `~o` the offsets up to which the partition's inputs are in these
states. They are states like any other: written in the same transaction, restored in the same way.
Fields of the Redis hash that start with "~~" are no states (store.py).
"""

from typing import Any

import msgspec

TIMERS = "~t:"
SWEEPS = "~s:"
OFFSETS = "~o"
GLOBALS = "g:"


class Sweep(msgspec.Struct, frozen=True):
    """A sweep under way. `cursor` is the last key it has met ("" before the first), `now` the
    `now` of the input that started it, `id` tells one sweep from a later one of the same name."""

    prefix: str
    payload: bytes
    slice: int
    now: int
    id: str
    cursor: str = ""


Timers = dict[str, tuple[int, bytes]]
"""An owner's timers: name -> (due in ms, payload)."""

Offsets = dict[str, int]
"""Input topic -> offset after the last record of it that is in the partition's states."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def earliest(timers: Timers) -> int:
    """When the first of an owner's timers comes due."""
    return min(due for due, _ in timers.values())


def in_memory(key: str) -> bool:
    """Whether the loop keeps this state in memory per partition: globals and sweeps."""
    return key.startswith(GLOBALS) or key.startswith(SWEEPS)


class Codec:
    """Decodes the states of one stage. The Struct type follows from the key's prefix: its first two
    parts when the stage lists them ("g:def"), else its first ("m")."""

    def __init__(self, types: dict[str, type]):
        self._types = types
        self._decoders = {prefix: msgspec.json.Decoder(t).decode for prefix, t in types.items()}
        self._two = {prefix.split(":", 1)[0] for prefix in types if ":" in prefix}
        # kinds whose keys need no second look: most states are of one
        self._plain = {kind: decode for kind, decode in self._decoders.items() if kind not in self._two}
        self._starts: dict[type, tuple[str, ...]] = {}
        for prefix, kind in types.items():
            if ":" in prefix or prefix not in self._two:
                self._starts[kind] = (*self._starts.get(kind, ()), f"{prefix}:")
        self._timers = msgspec.json.Decoder(Timers).decode
        self._sweep = msgspec.json.Decoder(Sweep).decode
        self._offsets = msgspec.json.Decoder(Offsets).decode

    def prefix(self, key: str) -> str:
        """The prefix of `key` that names its type. KeyError when the stage lists none for it."""
        first = key[: key.find(":")] if ":" in key else key
        if first in self._two:
            end = key.find(":", len(first) + 1)
            two = key if end < 0 else key[:end]
            if two in self._types:
                return two
        if first not in self._types:
            raise KeyError(f"no type for state key {key!r}: Stage.types lists {sorted(self._types)}")
        return first

    def decode(self, key: str, raw: bytes) -> Any:
        """The state under `key`. KeyError without a type, msgspec.DecodeError when it can't be read."""
        plain = self._plain.get(key.partition(":")[0])
        if plain is not None:
            return plain(raw)
        if key[0] == "~":
            if key == OFFSETS:
                return self._offsets(raw)
            return self._timers(raw) if key.startswith(TIMERS) else self._sweep(raw)
        return self._decoders[self.prefix(key)](raw)

    def check(self, key: str, value: Any) -> None:
        """TypeError when `value` is not of the type the stage lists for `key`; KeyError without one."""
        starts = self._starts.get(type(value))
        if starts is not None and key.startswith(starts):
            return
        kind = self._types[self.prefix(key)]
        if type(value) is not kind and isinstance(kind, type) and not isinstance(value, kind):
            raise TypeError(f"state {key!r} is to be a {kind.__name__}, not a {type(value).__name__}")
