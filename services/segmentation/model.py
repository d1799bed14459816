"""The states of the segmentation stage, and their limits.

A member's state (`m:<workspace>:<member>`) holds all that rules look at, with the own time of each
fact, so that a rule can be evaluated at any instant: "as known now" at a past one. It is one value,
read and written whole; an event of a member with n earlier ones of that name costs O(n) bytes,
about 45 a purchase. Most members have a few dozen events (2 to 4 KB); one with thousands should
be split into a key per name and year, which the layout allows (a `Series` stands alone) and which
is left until somebody has such members. Until then the limits below bound it.
"""

from typing import Any

import msgspec

TRAIT_CHANGES = 50
"""Changes kept of one trait, the newest. Before the oldest kept one the trait counts as missing."""
TEXT_KEPT = 201
"""Characters kept of a text: rules compare with at most 200, so a longer one equals none of them."""
LIST_KEPT = 100
"""Elements kept of a trait that is a list."""
COLUMNS = 32
"""Properties kept of one event name, those seen first; nested ones are named `a.b`."""
EVENTS_KEPT = 5_000
"""Events kept of one name, the newest."""
NAMES_KEPT = 300
"""Event names kept of one member, those seen first."""

NEVER = 1 << 62
"""An instant later than all others: what holds until then holds for ever."""


class Series(msgspec.Struct, array_like=True, frozen=True):
    """Events of one name in columns, sorted by (time, mark). `at` is ms, `marks` tell events of one
    instant apart (so repeats are recognised), `columns` hold the properties: scalars, lists of scalars,
    None = missing."""

    at: list[int] = []
    marks: list[int] = []
    columns: dict[str, list[Any]] = {}


class Suppressed(msgspec.Struct, array_like=True, frozen=True):
    """A suppression in force since `at` (ms), for one address or (None) the whole channel."""

    channel: str
    at: int
    address_id: str | None = None


class Inside(msgspec.Struct, array_like=True, frozen=True):
    """A membership: since when (ms, by the rule), entered under which version of the segment."""

    since: int
    version: int


KNOWN = "known"
ERASED = "erased"


class Member(msgspec.Struct, array_like=True, frozen=True):
    """State of one member, `m:<workspace>:<member>`."""

    status: str = ""
    """"" until profiles has said that the member exists; then known, or erased."""
    clock: int = 0
    """Latest instant the member was evaluated at (ms): evaluation never goes back in time."""
    user_id: str | None = None
    traits: dict[str, list[tuple[int, Any]]] = {}
    """Field to its changes by time; None = removed. At most TRAIT_CHANGES."""
    events: dict[str, Series] = {}
    consents: dict[str, list[tuple[int, bool]]] = {}
    """"channel:topic" to (ms, granted), by time; one entry an instant, a denial wins it."""
    messages: dict[str, Series] = {}
    """Action (sent, delivered, bounced, opened, clicked) to its records, columns campaign and actor."""
    suppressions: list[Suppressed] = []
    inside: dict[str, Inside] = {}
    timers: dict[str, int] = {}
    """Segment to the instant (ms) until which its result holds; a timer is set for each."""
    merged_into: str | None = None
    revision: int = 0
    """Moves written since this member was merged away."""
    absorbed: dict[str, int] = {}
    """Merged-away member to the revision of its state that is in this one."""

    @property
    def counts(self) -> bool:
        """Whether segments may hold this member: known, not erased, not merged away."""
        return self.status == KNOWN and self.merged_into is None


class Active(msgspec.Struct, frozen=True):
    """`g:set:<workspace>`: which versions of which segments are active in this partition. `key` names
    the set, so that a process compiles it once."""

    key: str
    versions: dict[str, int]


class Live(msgspec.Struct, frozen=True, omit_defaults=True):
    """`g:live:<workspace>:<segment>`: every member of this partition has been evaluated under `version`."""

    version: int
    at: str
    deleted: bool = False


class Count(msgspec.Struct, frozen=True):
    """`g:count:<workspace>:<segment>`: members of this partition that are in the segment."""

    members: int


def state_key(workspace: str, member_id: str) -> str:
    return f"m:{workspace}:{member_id}"


def set_key(workspace: str) -> str:
    return f"g:set:{workspace}"


def live_key(workspace: str, segment: str) -> str:
    return f"g:live:{workspace}:{segment}"


def count_key(workspace: str, segment: str) -> str:
    return f"g:count:{workspace}:{segment}"
