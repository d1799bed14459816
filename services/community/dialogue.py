"""What a piece of work makes of a member's conversation. Pure.

Events are derived from the work: the same work gives the same ids, so that doing it twice shows.
"""

from collections.abc import Iterator

import msgspec

from rondo_common import ids
from rondo_common.clock import from_iso
from rondo_common.records import CommunityEvent
from services.community.model import Conversation, Line, Work


def decide(work: Work, current: Conversation | None) -> list[CommunityEvent]:
    """Events of `work`, given the member's latest conversation. Nothing for a reply to, or the closing
    of, a conversation that is not open."""
    open_ = current if current is not None and current.status == "open" else None
    match work.kind:
        case "inbound":
            return list(_inbound(work, open_))
        case "reply" if open_ and open_.id == work.conversation_id:
            return [_event(work, open_.id, open_.channel, open_.sequence + 1, "conversation.message", "out")]
        case "close" if open_ and open_.id == work.conversation_id:
            return [_event(work, open_.id, open_.channel, open_.sequence + 1, "conversation.closed", None)]
    return []


def _inbound(work: Work, open_: Conversation | None) -> Iterator[CommunityEvent]:
    # another channel is another conversation only once the first is closed: one dialogue a member
    id = open_.id if open_ else "c" + ids.derived(work.id, "conversation").replace("-", "")[:20]
    sequence = open_.sequence if open_ else 0
    if open_ is None:
        sequence += 1
        yield _event(work, id, work.channel, sequence, "conversation.opened", None)
    yield _event(work, id, work.channel, sequence + 1, "conversation.message", "in")


def _event(work: Work, id: str, channel: str, sequence: int, kind: str, direction: str | None) -> CommunityEvent:
    return CommunityEvent(
        workspace=work.workspace,
        id=ids.derived(work.id, kind),
        kind=kind,
        conversation_id=id,
        sequence=sequence,
        member_id=work.member_id,
        channel=channel,
        at=work.at,
        direction=direction,
        text=work.text if direction else None,
        touch_id=work.touch_id,
        actor=work.actor,
    )


def fold(current: Conversation | None, event: CommunityEvent) -> Conversation | None:
    """The conversation after an event. One that was seen before (by its sequence) changes nothing."""
    if current is not None and event.sequence <= current.sequence:
        return current
    if event.kind == "conversation.opened":
        return Conversation(
            event.conversation_id, event.workspace, event.member_id, event.channel, "open", event.at, event.sequence
        )
    if current is None:
        return None
    changed = msgspec.structs.replace(current, sequence=event.sequence)
    if event.kind == "conversation.closed":
        return msgspec.structs.replace(changed, status="closed", closed_at=event.at)
    line = Line(event.direction or "in", event.text or "", event.at, event.touch_id, event.actor)
    changed = msgspec.structs.replace(changed, messages=[*current.messages, line])
    if line.direction == "in":
        # the answer goes where the member spoke last
        return msgspec.structs.replace(changed, channel=event.channel)
    if current.first_response_s is None:
        spent = (from_iso(event.at) - from_iso(current.opened_at)) / 1000
        return msgspec.structs.replace(changed, first_response_s=spent, assignee=event.actor)
    return changed
