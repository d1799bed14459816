"""The states of the profiles stage, by prefix of their key.

l:<workspace>:<sender>            Sender    where a sender's events go, when not to itself
d:<workspace>:<id>:<slot>         Seen      message ids of the last 7 days
m:<workspace>:<member>            Member    what is known of a member
c:<workspace>:<identifier id>     Claim     who says that this e-mail, phone or chat is theirs
g:tidy                            Tidy      an old Seen is to be deleted in this partition

Instants are ms since 1970. Structs are arrays in JSON: short, and new fields go to their ends.
"""

import msgspec

from rondo_common.topics import CHANNELS

USER = "user_id"
ANONYMOUS = "anonymous_id"
CONTACT_TRAITS = ("email", "phone", "telegram_chat_id", "timezone", "locale", "preferred_channel")
"""Traits that say how a member may be reached."""
CONSENT_EVENT = "Consent Changed"
CHANNEL_SET = frozenset(CHANNELS)

MAX_TRAIT_BYTES = 2048
MAX_TRAITS = 200
MAX_GROUPS = 200
MAX_IDENTIFIERS = 100
MAX_NAMES = 100
MAX_HOPS = 8


class Sender(msgspec.Struct, array_like=True):
    """`member` the sender belongs to and the kind of identifier that one was minted from; ids of the
    identifiers it was linked to already."""

    member: str
    minted: str
    linked: list[str] = []


class Seen(msgspec.Struct, array_like=True):
    """8-byte hashes of message ids and, in the same order, 4 bytes each with the second they came."""

    hashes: bytes = b""
    times: bytes = b""


class Tidy(msgspec.Struct, array_like=True):
    """`due` is when the partition's Seen states are looked through."""

    due: int


class Trait(msgspec.Struct, array_like=True, frozen=True):
    """A value as JSON (null: removed) and the instant it was said. The later wins, on a tie the larger
    text, so that any order of arrival ends the same."""

    at: int
    value: msgspec.Raw


class Consent(msgspec.Struct, array_like=True, frozen=True):
    """The newest statement for a (channel, topic)."""

    at: int
    state: str
    event_id: str
    source: str | None = None
    text_version: str | None = None


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """A suppression, or that it was lifted (`held` false)."""

    at: int
    held: bool = True


class Fragment(msgspec.Struct, array_like=True):
    """What one minted identity has gathered. Each part joins with that of another fragment without
    regard to order; `fragments.join` gives the whole of a merged member."""

    revision: int = 0
    created: int | None = None
    """Log time of the first input."""
    updated: int | None = None
    first: int | None = None
    """Event time of the first event."""
    last: int | None = None
    events: int = 0
    counts: dict[str, tuple[int, int]] = {}
    """By event name: how many, and the event time of the last."""
    user_ids: dict[str, int] = {}
    """By user id: event time it was first seen."""
    anonymous_ids: dict[str, int] = {}
    traits: dict[str, Trait] = {}
    groups: dict[str, int] = {}
    consents: dict[str, Consent] = {}
    """By channel:topic."""
    suppressions: dict[str, Hold] = {}
    """By channel:reason:address_id."""
    preferences: dict[str, Trait] = {}


class Member(msgspec.Struct, array_like=True):
    """`minted` is the kind of identifier the member id was made from. Once `merged_into` is set the
    fragments are empty: they were sent to the winner."""

    minted: str
    own: Fragment
    absorbed: dict[str, Fragment] = {}
    merged_into: str | None = None
    merged_minted: str = ANONYMOUS


class Claim(msgspec.Struct, array_like=True):
    """By member: the instant of its newest claim, and whether it still holds it."""

    members: dict[str, tuple[int, bool]] = {}


def sender_key(workspace: str, sender: str) -> str:
    return f"l:{workspace}:{sender}"


def member_state(workspace: str, member_id: str) -> str:
    return f"m:{workspace}:{member_id}"


def claim_key(workspace: str, identifier: str) -> str:
    return f"c:{workspace}:{identifier}"


TIDY = "g:tidy"
TYPES: dict[str, type] = {"l": Sender, "d": Seen, "m": Member, "c": Claim, "g": Tidy}
