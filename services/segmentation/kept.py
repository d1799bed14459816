"""A member's state as the stage reads and writes it: the maps of its history stay JSON until somebody asks.

An event changes one series of a member and most rules look at one or two, but the state holds all of them.
So a map is split into its entries when it is first asked, an entry decoded when it is, and what nobody
asked for is written back as the bytes that came. The bytes are those of `Member`, whichever way they are
made.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from services.segmentation.model import KNOWN, Inside, Member, Series, Suppressed

_EMPTY = Raw(b"{}")
_split = msgspec.json.Decoder(dict[str, Raw]).decode
_series = msgspec.json.Decoder(Series).decode
_trait = msgspec.json.Decoder(list[tuple[int, Any]]).decode
_consent = msgspec.json.Decoder(list[tuple[int, bool]]).decode


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """`m:<workspace>:<member>`: the fields of `Member`, in their order. Maps are Raw, or a dict of entries
    that are Raw or decoded."""

    status: str = ""
    clock: int = 0
    user_id: str | None = None
    traits: Raw = _EMPTY
    events: Raw = _EMPTY
    consents: Raw = _EMPTY
    messages: Raw = _EMPTY
    suppressions: list[Suppressed] = []
    inside: dict[str, Inside] = {}
    timers: dict[str, int] = {}
    merged_into: str | None = None
    revision: int = 0
    absorbed: dict[str, int] = {}

    @property
    def counts(self) -> bool:
        """As of `Member`."""
        return self.status == KNOWN and self.merged_into is None


NOBODY = Kept()


class Pieces:
    """A map of a history, entries decoded as they are asked for. A value: changed by `put` into another."""

    __slots__ = ("_decode", "_pieces", "_raw")

    def __init__(self, kept: Any, decode: Callable[[Raw], Any]):
        self._decode = decode
        if type(kept) is dict:
            self._raw, self._pieces = None, kept
        else:
            self._raw, self._pieces = kept, None

    def _split(self) -> dict[str, Any]:
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = _split(self._raw)
        return pieces

    def get(self, name: str, default: Any = None) -> Any:
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = _split(self._raw)
        found = pieces.get(name)
        if found is None:
            return default
        if type(found) is Raw:
            found = pieces[name] = self._decode(found)
        return found

    def __getitem__(self, name: str) -> Any:
        if name not in self._split():
            raise KeyError(name)
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._split()

    def __len__(self) -> int:
        return len(self._split())

    def __iter__(self) -> Iterator[str]:
        return iter(self._split())

    def keys(self) -> Any:
        return self._split().keys()

    def values(self) -> list[Any]:
        return [self.get(name) for name in list(self._split())]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self.get(name)) for name in list(self._split())]

    def put(self, name: str, value: Any) -> "Pieces":
        """The map with one entry set."""
        return Pieces({**self._split(), name: value}, self._decode)

    def kept(self) -> Any:
        """What to write: the bytes that came while nothing has changed."""
        return self._pieces if self._raw is None else self._raw


def put(entries: Any, name: str, value: Any) -> Any:
    """A map, plain or in pieces, with one entry set."""
    return entries.put(name, value) if type(entries) is Pieces else {**entries, name: value}


def messages_of(kept: Kept) -> Pieces:
    """The messages of a member that is not opened otherwise."""
    return Pieces(kept.messages, _series)


def opened(kept: Kept | None) -> Member:
    """The member, its maps in pieces."""
    if kept is None:
        return Member()
    return Member(
        kept.status,
        kept.clock,
        kept.user_id,
        Pieces(kept.traits, _trait),
        Pieces(kept.events, _series),
        Pieces(kept.consents, _consent),
        Pieces(kept.messages, _series),
        kept.suppressions,
        kept.inside,
        kept.timers,
        kept.merged_into,
        kept.revision,
        kept.absorbed,
    )


def closed(m: Member, clock: int, inside: dict[str, Inside], timers: dict[str, int]) -> Kept:
    """The state of a member with these three."""
    return Kept(
        m.status,
        clock,
        m.user_id,
        _kept(m.traits),
        _kept(m.events),
        _kept(m.consents),
        _kept(m.messages),
        m.suppressions,
        inside,
        timers,
        m.merged_into,
        m.revision,
        m.absorbed,
    )


def state_of(m: Member) -> Kept:
    """The state of a member as it is."""
    return closed(m, m.clock, m.inside, m.timers)


def whole(kept: Kept) -> Member:
    """The member with everything decoded."""
    return msgspec.json.decode(msgspec.json.encode(kept), type=Member)


def _kept(entries: Any) -> Any:
    return entries.kept() if type(entries) is Pieces else entries
