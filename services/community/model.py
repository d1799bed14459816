"""A conversation, and the work that changes one."""

import msgspec


class Work(msgspec.Struct, omit_defaults=True):
    """Something to do with a member's conversation, on rondo.community-work.v1, keyed workspace:member.
    `kind`: inbound, reply or close. `id` makes a repeat recognisable."""

    kind: str
    id: str
    workspace: str
    member_id: str
    at: str
    channel: str = ""
    text: str = ""
    touch_id: str | None = None
    conversation_id: str | None = None
    actor: str | None = None


class Line(msgspec.Struct, omit_defaults=True):
    """One message of a conversation. `direction` in or out."""

    direction: str
    text: str
    at: str
    touch_id: str | None = None
    actor: str | None = None


class Conversation(msgspec.Struct):
    """A conversation as its events tell it."""

    id: str
    workspace: str
    member_id: str
    channel: str
    status: str
    opened_at: str
    sequence: int
    messages: list[Line] = []
    closed_at: str | None = None
    first_response_s: float | None = None
    assignee: str | None = None
