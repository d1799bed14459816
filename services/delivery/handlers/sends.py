"""A send, from its record to the provider call that is written ahead. Pure."""

from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common import active
from rondo_common.outcomes import Drop, Outcome, Perform, Save, SetTimer, Wait
from rondo_common.records import Definition, Send, SendState
from rondo_common.stage import Input, Record, States
from services.delivery.gate import Passage, Way, passage
from services.delivery.handlers.parts import (
    GO,
    Parts,
    final,
    generation,
    held_key,
    member_key,
    send_key,
)
from services.delivery.model import FINAL, Answer, Call, Held, MemberState, Status, Verdict, digest
from services.delivery.render.renderer import Refused

_ENDS = {Way.CANCEL: Status.CANCELLED, Way.RETURN: Status.RETURNED, Way.REJECT: Status.REJECTED}

PATIENCE = 30_000
"""How long (ms) a send waits for its member's contact and profile to arrive from their own topics."""


def on_send(parts: Parts, item: Record, send: Send, states: States, now: int) -> Iterator[Outcome]:
    """A new send, or one that was returned and decided again. What it names may still be on its way on
    another topic: then the partition waits (STREAMS 20)."""
    old: SendState | None = states.get(send_key(send.touch_id))
    if old is not None and old.attempt >= send.attempt:
        yield Drop("repeat")
        return
    if old is not None and old.status != Status.RETURNED:
        yield Drop("already_decided" if old.status in FINAL else "still_open")
        return
    member: MemberState | None = states.get(member_key(send.workspace, send.member_id))
    if (member is None or not (member.contact and member.profile)) and now - item.time < PATIENCE:
        yield Wait("member")
        return
    if send.template is not None and send.content is None and _template(send, states) is None:
        yield Wait("template")
        return
    state = SendState(
        status=Status.QUEUED,
        send=msgspec.Raw(item.value),
        at=now,
        attempt=send.attempt,
        calls=old.calls if old else 0,
        tries=old.tries if old else 0,
        gen=old.gen if old else 0,
    )
    yield from advance(parts, item, send, state, states, now)


def gate(send: Send, state: SendState, states: States, now: int) -> Passage:
    """What the last gate says. A transactional message of doubtful outcome may go again, late or not."""
    member: MemberState = states.get(member_key(send.workspace, send.member_id)) or MemberState()
    stop = active.stopped(states, send.workspace, send.campaign, send.class_)
    return passage(send, member, stop, now, again=state.doubted and send.class_ == "transactional")


def advance(parts: Parts, item: Input, send: Send, state: SendState, states: States, now: int) -> Iterator[Outcome]:
    """Gate, render and write ahead; or hold, postpone or end."""
    key = send_key(send.touch_id)
    member: MemberState = states.get(member_key(send.workspace, send.member_id)) or MemberState()
    way = gate(send, state, states, now)
    match way.way:
        case Way.HOLD:
            yield _saved(key, state, Status.HELD, now, way.reason)
            yield Save(held_key(send), Held(send.member_id))
        case Way.LATER:
            yield _saved(key, state, Status.QUEUED, now, way.reason)
            yield SetTimer(key, GO, way.due, _payload(send))
        case Way.CANCEL | Way.RETURN | Way.REJECT:
            answer = Answer(Verdict.NOT_SENT, reason=way.reason, address_id=member.address_id)
            yield from final(parts, item, send, state, _ENDS[way.way], now, answer)
        case Way.GO:
            yield from _submit(parts, item, send, state, member, states, now)


def _submit(
    parts: Parts, item: Input, send: Send, state: SendState, member: MemberState, states: States, now: int
) -> Iterator[Outcome]:
    template = None if send.content is not None else _template(send, states)
    try:
        message = parts.renderer.message(send, member, template, now)
    except Refused as e:
        answer = Answer(Verdict.REJECTED, reason=e.reason, detail=e.detail or None, address_id=member.address_id)
        yield from final(parts, item, send, state, Status.REJECTED, now, answer)
        return
    gen = generation(states)
    calls = state.calls + 1
    yield Save(
        send_key(send.touch_id),
        msgspec.structs.replace(
            state,
            status=Status.SUBMITTING,
            at=now,
            calls=calls,
            gen=gen,
            provider=parts.provider,
            reason=None,
            confirmed=False,
            to=message.to if parts.askable else None,
            digest=digest(message.text) if parts.askable else None,
        ),
    )
    call = f"{send.touch_id}:{calls}"
    yield Perform(
        call,
        Call(
            id=call,
            touch_id=send.touch_id,
            gen=gen,
            workspace=send.workspace,
            campaign=send.campaign,
            class_=send.class_,
            lane=send.lane,
            address_id=member.address_id or "",
            message=message,
            trace=item.headers.get("traceparent", "") if type(item) is Record else "",
        ),
    )


def postpone(
    send: Send, state: SendState, status: Status, now: int, wait: int, reason: str | None
) -> Iterator[Outcome]:
    """Gate the send again in `wait` ms."""
    key = send_key(send.touch_id)
    yield _saved(key, state, status, now, reason)
    yield SetTimer(key, GO, now + wait, _payload(send))


def _saved(key: str, state: SendState, status: Status, now: int, reason: str | None) -> Save:
    return Save(key, msgspec.structs.replace(state, status=status, at=now, reason=reason))


def _payload(send: Send) -> bytes:
    """A timer's keys follow from the timer alone (STREAMS 10): it carries its member's."""
    return member_key(send.workspace, send.member_id).encode()


def _template(send: Send, states: States) -> Definition | None:
    if send.template is None:
        return None
    if send.template_version is None:
        return active.latest(states, send.workspace, "template", send.template)
    found: Any = active.exact(states, send.workspace, "template", send.template, send.template_version)
    return found
