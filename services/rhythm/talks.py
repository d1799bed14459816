"""Open conversations of a member, from records that may come twice. Pure."""

from rondo_common.records import CommunityEvent

KEPT_CLOSED = 8
"""Closed conversations that are remembered, so that a repeated `opened` changes nothing."""

Talks = dict[str, tuple[bool, int]]


def newer(talks: Talks, id: str, open_: bool, sequence: int) -> Talks:
    """`talks` with the newest word on one conversation."""
    rest = {k: v for k, v in talks.items() if k != id}
    closed = [k for k, (is_open, _) in rest.items() if not is_open]
    for k in closed[: max(0, len(closed) - KEPT_CLOSED + 1)]:
        del rest[k]
    return {**rest, id: (open_, sequence)}


def told(talks: Talks, event: CommunityEvent) -> Talks | None:
    """`talks` after `event`, None when it says nothing new."""
    if event.kind not in ("conversation.opened", "conversation.closed"):
        return None
    known = talks.get(event.conversation_id)
    if known is not None and event.sequence <= known[1]:
        return None
    return newer(talks, event.conversation_id, event.kind == "conversation.opened", event.sequence)
