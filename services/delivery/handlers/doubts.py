"""Calls of unknown outcome: said at once, then settled by asking, by a callback, or by the policy of
their class (DESIGN 4.4 and 8). Pure."""

from collections.abc import Iterator

import msgspec

from rondo_common.outcomes import CancelTimer, Drop, Outcome, Perform, Save, SetTimer
from rondo_common.records import Send, SendState
from rondo_common.stage import Input, States, Timer
from services.delivery import waits
from services.delivery.gate import Way
from services.delivery.handlers.parts import RECONCILE, Parts, delivery, forget, member_key, send_key, send_of
from services.delivery.handlers.sends import advance, gate, postpone
from services.delivery.model import Answer, Lookup, Status, Verdict


class Step(msgspec.Struct, array_like=True, frozen=True):
    """Payload of a reconcile timer. `member` is the state key of the member; `missed` counts look-ups
    that did not find the message."""

    member: str
    step: int
    missed: int


_read_step = msgspec.json.Decoder(Step).decode


def step_of(timer: Timer) -> Step:
    return _read_step(timer.payload)


def _timer(parts: Parts, send: Send, step: int, missed: int, since: int, now: int) -> SetTimer:
    """The next step, at its time after the outcome became unknown (`since`)."""
    due = max(now, since + parts.reconcile_steps[step])
    payload = msgspec.json.encode(Step(member_key(send.workspace, send.member_id), step, missed))
    return SetTimer(send_key(send.touch_id), RECONCILE, due, payload)


def become_unknown(
    parts: Parts, item: Input, send: Send, state: SendState, answer: Answer, now: int
) -> Iterator[Outcome]:
    """The call may have got through. Said once and at once, so that sent + unknown is what was let through."""
    doubted = msgspec.structs.replace(state, status=Status.UNKNOWN, at=now, reason=answer.reason, doubted=True)
    yield Save(send_key(send.touch_id), doubted)
    if not state.doubted:
        yield delivery(parts, item, send, state, Status.UNKNOWN, now, reason=answer.reason, detail=answer.detail)
    step = 0 if parts.askable else len(parts.reconcile_steps) - 1
    yield _timer(parts, send, step, 0, now, now)


def on_reconcile(parts: Parts, item: Timer, states: States, now: int) -> Iterator[Outcome]:
    """A step of settling: ask, send again, or let it rest as unknown."""
    state: SendState | None = states.get(item.owner)
    if state is None or state.status != Status.UNKNOWN:
        yield Drop("settled")
        return
    send = send_of(state)
    at = step_of(item)
    askable = parts.askable and state.to is not None and state.digest is not None
    match waits.reconcile(at.step, len(parts.reconcile_steps), send.class_, askable):
        case waits.Next.ASK:
            # the next step stands by, should no answer come (the worker dies, the provider is down)
            yield _timer(parts, send, at.step + 1, at.missed, state.at, now)
            yield Perform(
                f"{send.touch_id}:{state.calls}/ask{at.missed}",
                Lookup(state.to or "", state.digest or "", state.at - ASK_FROM),
            )
        case waits.Next.AGAIN if gate(send, state, states, now).way is Way.GO:
            yield from advance(parts, item, send, state, states, now)
        case _:
            # kept without its content: a callback within the window of callbacks still settles it
            small = msgspec.structs.replace(send, content=None, data=None, event=None)
            yield Save(item.owner, msgspec.structs.replace(state, send=msgspec.Raw(msgspec.json.encode(small))))
            yield from forget(state, send.touch_id)


ASK_FROM = 120_000
"""How long (ms) before its outcome became unknown a call may have begun: its time-out and some more."""


def asked(parts: Parts, send: Send, state: SendState, answer: Answer, missed: int, now: int) -> Iterator[Outcome]:
    """The provider did not find the message, or did not answer. Missing it at two steps, seconds apart,
    means that it never took it."""
    if state.status != Status.UNKNOWN or answer.verdict != Verdict.NOT_SENT:
        yield Drop("no_answer_to_look_up")
        return
    missed += 1
    if missed >= waits.ABSENT_AFTER:
        yield CancelTimer(send_key(send.touch_id), RECONCILE)
        yield from postpone(send, state, Status.RETRY, now, waits.SOON, "not_taken")
        yield from forget(state, send.touch_id)
        return
    yield _timer(parts, send, min(missed, len(parts.reconcile_steps) - 1), missed, state.at, now)
