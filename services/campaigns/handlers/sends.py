"""Single transactional messages: from the API, an operator's reply, the confirmation of a STOP."""

from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common import active, ids, topics
from rondo_common.clock import from_iso, iso
from rondo_common.outcomes import DeadLetter, Drop, Emit, Outcome, Save
from rondo_common.records import Command, MemberEvent, Touch
from rondo_common.stage import States
from services.campaigns.handlers import triggers
from services.campaigns.handlers.outcomes import REPLY_RUN, SEND_RUN, STOP_RUN
from services.campaigns.model import Marker, MemberState, marker_key, member_state_key
from services.campaigns.touch_making import STEP, TOUCH_TYPE, template_version

STOP_TEXT = "You have been unsubscribed and will receive no more messages. Reply START to come back."
STOP_SUBJECT = "You have been unsubscribed"


class Extra(msgspec.Struct, frozen=True):
    """What `data` of a send may say about itself."""

    conversation_id: str | None = None


def send_touch_id(command: Command) -> str:
    """Touch id of a send: the command's own, else one that follows from it."""
    return command.touch_id or ids.touch_id(SEND_RUN, STEP, command.member_id or "", command.id)


def on_send(command: Command, states: States, now: int, hops: int = 0) -> Iterator[Outcome]:
    """A transactional message. A repeat of the command does nothing."""
    id, member_id = send_touch_id(command), command.member_id or ""
    marker = marker_key(id, member_id)
    if states.get(marker) is not None:
        yield Drop("repeat")
        return
    member: MemberState | None = states.get(member_state_key(command.workspace, member_id))
    if member is not None and member.merged_into:
        yield Save(marker, Marker(now))
        onward = msgspec.structs.replace(command, touch_id=id)
        yield from triggers.passed_on(onward, member.merged_into, member_id, now, hops)
        return
    version = None
    if command.template:
        if active.latest(states, command.workspace, "template", command.template) is None:
            yield DeadLetter("unknown_template", command.template)
            return
        version = template_version(states, command.workspace, command.template)
    yield Save(marker, Marker(now))
    yield _touch(
        workspace=command.workspace,
        id=id,
        run_id=command.run_id or SEND_RUN,
        campaign=command.campaign or "",
        member_id=member_id,
        occurrence=command.id,
        channel=command.channel or "",
        at=from_iso(command.at),
        template=command.template,
        version=version,
        content=command.content,
        data=command.data,
        conversation_id=_conversation(command),
    )


def stop_touch_id(event: MemberEvent) -> str:
    """Touch id of the confirmation of an inbound STOP: one for each inbound message."""
    inbound = event.inbound or {}
    return ids.touch_id(STOP_RUN, STEP, event.member_id, inbound.get("inbound_id") or event.id)


def on_inbound(event: MemberEvent, states: States, now: int) -> Iterator[Outcome]:
    """A member wrote. STOP is confirmed once, on the channel it came by; anything else is not for here."""
    inbound = event.inbound or {}
    channel = inbound.get("channel") or ""
    if inbound.get("keyword") != "stop" or channel not in topics.CHANNELS:
        yield Drop("not_needed")
        return
    id = stop_touch_id(event)
    if states.get(marker_key(id, event.member_id)) is not None:
        yield Drop("repeat")
        return
    yield Save(marker_key(id, event.member_id), Marker(now))
    part = {"subject": STOP_SUBJECT, "text": STOP_TEXT} if channel == "email" else {"text": STOP_TEXT}
    yield _touch(
        workspace=event.workspace,
        id=id,
        run_id=STOP_RUN,
        campaign="",
        member_id=event.member_id,
        occurrence=inbound.get("inbound_id") or event.id,
        channel=channel,
        at=now,
        template=None,
        version=None,
        content=msgspec.Raw(msgspec.json.encode({channel: part})),
        data=None,
        conversation_id=None,
    )


def _touch(
    *,
    workspace: str,
    id: str,
    run_id: str,
    campaign: str,
    member_id: str,
    occurrence: str,
    channel: str,
    at: int,
    template: str | None,
    version: int | None,
    content: Any,
    data: Any,
    conversation_id: str | None,
) -> Emit:
    touch = Touch(
        workspace=workspace,
        touch_id=id,
        run_id=run_id,
        campaign=campaign,
        version=0,
        step=STEP,
        member_id=member_id,
        occurrence=occurrence,
        class_="transactional",
        topic="",
        lane="transactional",
        channels=[channel],
        decide_at=iso(at),
        template=template,
        template_version=version,
        content=content,
        data=data,
        conversation_id=conversation_id,
    )
    key = ids.member_key(workspace, member_id)
    return Emit(topics.touches("transactional"), key, touch, TOUCH_TYPE, id, member_id)


def _conversation(command: Command) -> str | None:
    """The conversation an operator's reply belongs to: its run names it, or the data do."""
    if command.run_id and command.run_id.startswith(REPLY_RUN):
        return command.run_id.removeprefix(REPLY_RUN)
    try:
        return msgspec.json.decode(command.data, type=Extra).conversation_id if command.data else None
    except msgspec.DecodeError:
        return None
