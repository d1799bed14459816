"""Members in segments."""

import msgspec


class Membership(msgspec.Struct, omit_defaults=True):
    """One membership: since when, by which version of the segment."""

    entered_at: str
    version: int


class Memberships(msgspec.Struct, omit_defaults=True):
    """All segments a member is in, on rondo.memberships.v1 (compacted, keyed workspace:member)."""

    workspace: str
    member_id: str
    segments: dict[str, Membership] = {}


class MembershipChange(msgspec.Struct, omit_defaults=True):
    """A member entered or left a segment, on rondo.membership-changes.v1.

    `change`: entered, left, or live. live is a marker, one per partition (key workspace:segment:<id>,
    explicit partition): every member of this partition has been evaluated under `version`.
    `at` is when it took effect, by the rule; `recorded_at` when it was noticed; `historical` when a
    backfill or an imported event caused it, so that nothing is triggered by it.
    """

    workspace: str
    segment: str
    version: int
    change: str
    at: str
    recorded_at: str
    id: str
    member_id: str | None = None
    historical: bool = False
    cause: str | None = None
    """Id of the member event, or "timer" or "backfill"."""
