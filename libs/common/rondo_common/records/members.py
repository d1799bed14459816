"""What is known of a member, and what happened to one."""

import msgspec


class ConsentEntry(msgspec.Struct, omit_defaults=True):
    """Consent for one (channel, topic): the newest statement. `topic` "*" is the whole channel."""

    channel: str
    topic: str
    state: str
    """granted or denied."""
    since: str
    event_id: str
    source: str | None = None
    text_version: str | None = None


class Suppression(msgspec.Struct, omit_defaults=True):
    """An address that must not be used. `reason` is bounce, complaint or manual; `address_id` the id
    of the address it holds for: another address of the member is not touched by it."""

    channel: str
    reason: str
    at: str
    address_id: str | None = None


class MemberEvent(msgspec.Struct, omit_defaults=True):
    """Something that happened to one member, on rondo.member-events.v1, in the order profiles
    applied it.

    `kind`: track, page, screen, group (with `name`, `properties`); member.created; member.updated
    (with `traits`: only those that changed, null for one that was removed); consent.changed (with
    `consent`); member.merged (written at the loser, `merged_into` is the winner; and at the winner,
    `merged_from` is the loser); member.erased; inbound.received (with `inbound`).
    `timestamp` is the event's own corrected time, which rules count by.

    History only, the present state does not change by them: traits.late (with `traits`, and
    `trait_times` where a trait's instant is not `timestamp`: an older value that came in after a newer
    one, followed by the values that stand) and consent.late (an older statement).
    """

    workspace: str
    member_id: str
    kind: str
    id: str
    timestamp: str
    event_id: str | None = None
    """messageId of the call it came from."""
    name: str | None = None
    properties: msgspec.Raw = None  # type: ignore[assignment]
    traits: dict[str, msgspec.Raw] | None = None
    trait_times: dict[str, str] | None = None
    """The own instant of a trait, where it is not `timestamp`: in member.updated after a merge, and in
    traits.late."""
    consent: ConsentEntry | None = None
    merged_into: str | None = None
    merged_from: str | None = None
    user_id: str | None = None
    historical: bool = False
    inbound: dict[str, str | None] | None = None
    """channel, text, keyword, inbound_id, touch_id of an inbound message."""


class Profile(msgspec.Struct, omit_defaults=True):
    """The member's profile, on rondo.profiles.v1 (compacted). A tombstone means erased.

    Written when anything but the activity (last_seen, events, event_counts, updated_at) changed; the
    activity is the one of that moment. gRPC Profiles answers with the present one.
    """

    workspace: str
    member_id: str
    user_id: str | None = None
    """The first user id (smallest by instant, then text), the one CRMs know."""
    user_ids: list[str] = []
    anonymous_ids: list[str] = []
    traits: dict[str, msgspec.Raw] = {}
    consents: list[ConsentEntry] = []
    suppressions: list[Suppression] = []
    groups: list[str] = []
    first_seen: str | None = None
    last_seen: str | None = None
    events: int = 0
    """How many events were counted, over all names."""
    event_counts: dict[str, int] = {}
    """By name, at most the 100 most recent names."""
    preferences: msgspec.Raw = None  # type: ignore[assignment]
    merged_into: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class Contact(msgspec.Struct, omit_defaults=True):
    """How a member may be reached, on rondo.contacts.v1 (compacted), written only when one of these
    changes. `merged_into` set: this member is no longer spoken to."""

    workspace: str
    member_id: str
    user_id: str | None = None
    email: str | None = None
    phone: str | None = None
    telegram_chat_id: str | None = None
    timezone: str | None = None
    """IANA name, only when valid."""
    locale: str | None = None
    preferred_channel: str | None = None
    consents: list[ConsentEntry] = []
    suppressions: list[Suppression] = []
    tempo: dict[str, str] = {}
    paused_until: str | None = None
    quiet_hours: dict[str, str] | None = None
    channels: list[str] | None = None
    merged_into: str | None = None
    erased: bool = False
    created_at: str | None = None


class ConsentRecord(msgspec.Struct, omit_defaults=True):
    """One line of the consent ledger, on rondo.consents.v1, never changed."""

    workspace: str
    member_id: str
    id: str
    channel: str
    topic: str
    state: str
    timestamp: str
    recorded_at: str
    event_id: str
    source: str | None = None
    text_version: str | None = None
    ip: str | None = None
