"""What happens in the community service."""

import msgspec


class CommunityEvent(msgspec.Struct, omit_defaults=True):
    """On rondo.community.v1, keyed workspace:member. `kind`: conversation.opened, conversation.message,
    conversation.closed. A member with an open conversation is held by the gate (open_dialogue).
    `sequence` rises within a conversation: a reader ignores what it has seen."""

    workspace: str
    id: str
    kind: str
    conversation_id: str
    sequence: int
    member_id: str
    channel: str
    at: str
    direction: str | None = None
    text: str | None = None
    touch_id: str | None = None
    actor: str | None = None
