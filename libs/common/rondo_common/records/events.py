"""What comes in at the door."""

import msgspec


class Event(msgspec.Struct, omit_defaults=True):
    """One accepted Segment call, on rondo.events.v1, keyed workspace:sender.

    `type` is identify, track, page, screen, group or alias. `sender` is the id of userId, else of
    anonymousId. `timestamp` is corrected for clock skew; the three others are kept as they came.
    """

    workspace: str
    type: str
    message_id: str
    sender: str
    timestamp: str
    received_at: str
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    event: str | None = None
    """Name of a track event; name of the page or screen for those."""
    properties: msgspec.Raw = None  # type: ignore[assignment]
    traits: msgspec.Raw = None  # type: ignore[assignment]
    context: msgspec.Raw = None  # type: ignore[assignment]
    original_timestamp: str | None = None
    sent_at: str | None = None
    historical: bool = False


class Rejected(msgspec.Struct, omit_defaults=True):
    """An event the door refused, on rondo.events.rejected.v1: why, where in it, and what it was."""

    workspace: str
    code: str
    pointer: str
    detail: str
    received_at: str
    body: str
    """The refused event as text, cut at 32 KB."""
    message_id: str | None = None


class Inbound(msgspec.Struct, omit_defaults=True):
    """A message from a member, on rondo.inbound.v1, keyed workspace:member when the provider's data
    named one, else workspace:address_id. `address_kind` is phone, email or telegram_chat_id."""

    workspace: str
    id: str
    """Derived from the provider's own event id: a repeat has the same."""
    channel: str
    provider: str
    address_kind: str
    address_id: str
    text: str
    at: str
    member_id: str | None = None
    touch_id: str | None = None
    keyword: str | None = None
    """stop, start or help when the whole message is one of those words."""
