"""What the handlers share: the configuration they decide by, and the records they write. Pure."""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit, Outcome, Perform, Save
from rondo_common.records import Delivery, Send, SendState
from rondo_common.stage import Input, States
from services.delivery.model import NULL, Answer, Forget, Status, Worker
from services.delivery.render.renderer import Renderer

WORKER = "g:worker"
GO = "go"
"""Timer of a send: gate it (again)."""
RECONCILE = "reconcile"
"""Timer of a send of unknown outcome."""

_iso = lru_cache(maxsize=64)(iso)
"""The outcomes of one batch share their time."""
_read_send = msgspec.json.Decoder(Send).decode


class Parts(msgspec.Struct, frozen=True):
    """The configuration of one channel's worker. Waits in ms."""

    channel: str
    provider: str
    askable: bool
    """Whether the provider can be asked if it took a message."""
    secret: str
    renderer: Renderer
    retry_waits: tuple[int, ...]
    reconcile_steps: tuple[int, ...]
    keep: int
    """How long a final send is kept."""


def send_key(touch_id: str) -> str:
    return f"o:{touch_id}"


def member_key(workspace: str, member_id: str) -> str:
    return f"m:{ids.member_key(workspace, member_id)}"


def held_key(send: Send) -> str:
    return f"h:{send.workspace}:{send.campaign}:{send.touch_id}"


def send_of(state: SendState) -> Send:
    """The send a state keeps. msgspec.DecodeError when it keeps none any more (it is final)."""
    return _read_send(state.send)


def generation(states: States) -> int:
    worker = states.get(WORKER)
    return worker.gen if isinstance(worker, Worker) else 0


def delivery(parts: Parts, item: Input, send: Send, state: SendState, status: str, now: int, **more: object) -> Emit:
    """The record of an outcome. `more` are further fields of Delivery."""
    id = ids.derived(item.cause, f"{parts.channel}:{send.touch_id}:{status}")
    record = Delivery(
        workspace=send.workspace,
        id=id,
        touch_id=send.touch_id,
        member_id=send.member_id,
        channel=send.channel,
        provider=parts.provider,
        status=status,
        at=_iso(now),
        attempt=send.attempt,
        campaign=send.campaign,
        run_id=send.run_id,
        version=send.version,
        step=send.step,
        lane=send.lane,
        topic=send.topic,
        class_=send.class_,
        conversation_id=send.conversation_id,
        settled=state.doubted,
        **more,  # type: ignore[arg-type]
    )
    key = ids.member_key(send.workspace, send.member_id)
    return Emit(topics.DELIVERIES, key, record, type=f"delivery.{status}", id=id, subject=send.member_id)


def forget(state: SendState, touch_id: str) -> Iterator[Outcome]:
    """Lets the mark of the last call go, once this is committed."""
    if state.calls and state.gen:
        call = f"{touch_id}:{state.calls}"
        yield Perform(f"{call}/forget", Forget(call, state.gen))


def final(
    parts: Parts, item: Input, send: Send, state: SendState, status: Status, now: int, answer: Answer
) -> Iterator[Outcome]:
    """The end of a send, and of its call's mark."""
    yield from ended(parts, item, send, state, status, now, answer)
    yield from forget(state, send.touch_id)


def ended(
    parts: Parts, item: Input, send: Send, state: SendState, status: Status, now: int, answer: Answer
) -> tuple[Outcome, Outcome]:
    """The outcome of a send on rondo.deliveries.v1, and a small state in place of the large. A returned one
    keeps its calls and tries too: the same touch comes again."""
    last = SendState(
        status=status,
        send=NULL,
        at=now,
        calls=state.calls,
        provider=parts.provider,
        provider_id=answer.provider_id,
        reason=answer.reason,
        attempt=send.attempt,
        tries=state.tries,
        gen=state.gen,
    )
    said = delivery(
        parts,
        item,
        send,
        state,
        status,
        now,
        reason=answer.reason,
        detail=answer.detail,
        provider_id=answer.provider_id,
        permanent=answer.permanent,
        address_id=answer.address_id,
    )
    return Save(send_key(send.touch_id), last), said
