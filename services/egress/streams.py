"""The egress stage: records in, public events and webhook calls out."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from rondo_common import active, ids, topics
from rondo_common.clock import from_iso
from rondo_common.outcomes import Drop, Emit, Outcome, Perform, Save, SetTimer
from rondo_common.records import (
    Command,
    CommunityEvent,
    Contact,
    Decision,
    Engagement,
    MemberEvent,
    MembershipChange,
)
from rondo_common.stage import Input, Record, Result, States, Timer, Touches
from services.egress import mapping
from services.egress.model import Answer, Call, Known, Queued, Webhook
from services.egress.retries import next_try

READERS: dict[str, type] = {
    topics.COMMANDS: Command,
    topics.CONTACTS: Contact,
    topics.MEMBER_EVENTS: MemberEvent,
    topics.MEMBERSHIP_CHANGES: MembershipChange,
    topics.DECISIONS: Decision,
    topics.DELIVERIES: mapping.Outcome,
    topics.ENGAGEMENT: Engagement,
    topics.COMMUNITY: CommunityEvent,
}
_decoders = {name: msgspec.json.Decoder(type_).decode for name, type_ in READERS.items()}
_RETRY = "retry"


_encode = msgspec.json.Encoder().encode
_NOTHING = Touches()
_INSIDE = Drop("inside")
_TOMBSTONE = Drop("tombstone")


def _inside(record: Record) -> bool:
    """Whether a record's headers say that no CRM is told about it."""
    topic = record.topic
    if topic == topics.MEMBER_EVENTS:
        return record.headers.get("ce_type") in mapping.INSIDE
    if topic == topics.DECISIONS:
        return record.headers.get("verdict") == "send"
    if topic == topics.DELIVERIES:
        status = record.said("delivery")
        return bool(status) and status not in mapping.DELIVERY
    return False


class EgressStage:
    """See rondo_common.stage.Stage."""

    name = "egress"
    state_topic = topics.EGRESS_STATE
    state_offset = 0
    lanes = (
        (topics.COMMANDS, topics.CONTACTS),
        (
            topics.MEMBER_EVENTS,
            topics.MEMBERSHIP_CHANGES,
            topics.DECISIONS,
            topics.DELIVERIES,
            topics.ENGAGEMENT,
            topics.COMMUNITY,
        ),
    )
    unhurried = frozenset(lanes[1])
    lane_limit: dict[int, int] = {}  # noqa: RUF012 - the Stage protocol has it as a plain dict
    wall_clock = False
    gather_s = 0.1
    """CRMs read the topic or are called: what the transactions save is worth more than 75 ms."""
    types: dict[str, type] = {**active.GLOBAL_TYPES, "m": Known, "q": Queued}  # noqa: RUF012

    def read(self, record: Record) -> Any:
        # most records stay inside, and their headers say so: they are neither decoded nor looked up
        if _inside(record):
            return _INSIDE
        return _decoders[record.topic](record.value) if record.value else _TOMBSTONE

    def touches(self, item: Input, message: Any) -> Touches:
        kind = type(item)
        if kind is Record:
            return Touches(None, (_member(message),)) if message.member_id else _NOTHING
        if kind is Timer and item.owner.startswith("q:"):
            return Touches(item.owner, (item.owner,))
        return Touches(None, (item.id,)) if kind is Result else _NOTHING

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        match item:
            case Record():
                return self._record(item, message, states)
            case Timer():
                return _call(item.owner, states.get(item.owner), states)
            case Result():
                return _answered(item.id, item.answer, states, now)
        return ()

    def _record(self, record: Record, message: Any, states: States) -> Iterator[Outcome]:
        match message:
            case Command():
                mine = message.definition is not None and message.definition.kind == "webhook"
                yield from active.activate(message, states) if mine else (Drop("not_mine"),)
                return
            case Contact():
                known = states.get(_member(message)) or Known()
                if message.user_id and message.user_id != known.user_id:
                    yield Save(_member(message), msgspec.structs.replace(known, user_id=message.user_id))
                return
        known = (states.get(_member(message)) if message.member_id else None) or Known()
        if isinstance(message, CommunityEvent):
            if message.sequence <= known.conversations.get(message.conversation_id, -1):
                yield Drop("repeat")
                return
            yield Save(_member(message), _heard(known, message))
        public = _MAP[type(message)](message, known.user_id)
        if public is None:
            yield Drop("inside")
            return
        body = _encode(public.event)
        id = ids.derived(public.id, "crm")
        key = ids.member_key(message.workspace, public.member_id)
        yield Emit(topics.CRM_EVENTS, key, body, type=public.event.type, id=id, subject=public.member_id)
        for d in active.every(states, message.workspace, "webhook"):
            hook = msgspec.json.decode(d.body, type=Webhook)
            if not hook.disabled and mapping.wanted(hook.types, public.event.type):
                queue_key = f"q:{d.id}:{id}"
                queued = Queued(message.workspace, d.id, id, msgspec.Raw(body))
                yield Save(queue_key, queued)
                yield Perform(queue_key, _task(queued, hook))
                # should the process die before the answer, the timer calls again with the same webhook-id
                yield SetTimer(queue_key, _RETRY, record.time + next_try(queue_key, 0))


_MAP: dict[type, Any] = {
    MemberEvent: mapping.of_member,
    MembershipChange: mapping.of_membership,
    Decision: mapping.of_decision,
    mapping.Outcome: mapping.of_delivery,
    Engagement: mapping.of_engagement,
    CommunityEvent: mapping.of_conversation,
}


def _member(message: Any) -> str:
    return f"m:{message.workspace}:{message.member_id}"


def _heard(known: Known, e: CommunityEvent) -> Known:
    seen = dict(known.conversations)
    if e.kind == "conversation.closed":
        seen.pop(e.conversation_id, None)
    seen[e.conversation_id] = e.sequence
    # the last few conversations are enough to recognise a repeat
    return msgspec.structs.replace(known, conversations=dict(list(seen.items())[-8:]))


def _task(queued: Queued, hook: Webhook) -> Call:
    until = from_iso(hook.old_secret_until) if hook.old_secret_until else 0
    return Call(queued.workspace, queued.webhook, hook.url, hook.generation, queued.event_id, bytes(queued.body), until)


def _hook(queued: Queued, states: States) -> Webhook | None:
    d = active.latest(states, queued.workspace, "webhook", queued.webhook)
    hook = msgspec.json.decode(d.body, type=Webhook) if d else None
    return None if hook is None or hook.disabled else hook


def _call(key: str, queued: Queued | None, states: States) -> Iterator[Outcome]:
    if queued is None:
        return
    hook = _hook(queued, states)
    if hook is None:
        yield Save(key, None)
        return
    yield Perform(key, _task(queued, hook))


def _answered(key: str, answer: Answer, states: States, now: int) -> Iterator[Outcome]:
    queued: Queued | None = states.get(key)
    if queued is None:
        return
    tries = queued.tries + 1
    wait = next_try(key, tries)
    if answer.ok or answer.gone or wait is None:
        yield Save(key, None)
        yield Drop("webhook_delivered" if answer.ok else "webhook_gone" if answer.gone else "webhook_given_up")
        return
    yield Save(key, msgspec.structs.replace(queued, tries=tries))
    yield SetTimer(key, _RETRY, now + wait)
