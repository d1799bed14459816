"""Messages inside profiles, between the partitions of senders and of members (STREAMS 16, 17)."""

import msgspec

from rondo_common.records.commands import Command
from rondo_common.records.deliveries import Delivery, Engagement
from rondo_common.records.events import Event, Inbound


class Link(msgspec.Struct, omit_defaults=True):
    """On rondo.links.v1, keyed workspace:<identifier id>, for the partition that owns the identifier.

    `kind` link: the sender `identifier_id` now belongs to `member_id`. `kind` claim: the member says
    at `at` that this e-mail, phone or chat is theirs (`held` true) or no longer is (false).
    """

    kind: str
    workspace: str
    identifier_id: str
    identifier_kind: str
    member_id: str
    at: str
    held: bool = True
    value: str | None = None
    hops: int = 0
    minted: str = "anonymous_id"
    """Kind of the identifier that `member_id` was minted from: user_id or anonymous_id."""


class Routed(msgspec.Struct, omit_defaults=True):
    """On rondo.routed.v1, keyed workspace:member.

    `kind` event: apply `event`. merge: this member (a loser) now points to `winner`. absorb: take
    `fragment` of `origin` at `revision`. inbound: apply a message from the member. delivery,
    engagement, command: the same for records that met a merged-away member. `cause` names the first
    input, `at` is its instant as the log has it; both stay the same over all hops.
    """

    kind: str
    workspace: str
    member_id: str
    cause: str
    at: str
    event: Event | None = None
    inbound: Inbound | None = None
    winner: str | None = None
    origin: str | None = None
    revision: int = 0
    fragment: msgspec.Raw = None  # type: ignore[assignment]
    hops: int = 0
    minted: str = "anonymous_id"
    """Kind of the identifier that `member_id` was minted from: user_id or anonymous_id."""
    winner_minted: str = "anonymous_id"
    delivery: Delivery | None = None
    engagement: Engagement | None = None
    command: Command | None = None
