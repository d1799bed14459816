"""What became of a call: the effector's answers, and callbacks. Pure."""

from collections.abc import Iterator

import msgspec

from rondo_common.outcomes import CancelTimer, Drop, Outcome, Perform, Save
from rondo_common.records import Delivery, Send, SendState
from rondo_common.stage import Input, Record, Result, Results, States
from services.delivery import waits
from services.delivery.handlers.doubts import asked, become_unknown
from services.delivery.handlers.parts import GO, RECONCILE, Parts, ended, final, forget, send_key, send_of
from services.delivery.handlers.sends import postpone
from services.delivery.model import Answer, Forget, Status, Verdict

_OPEN = frozenset((Status.QUEUED, Status.RETRY, Status.HELD))
TOOK = frozenset(("delivered", "bounced", "complained", "deferred"))
"""Callbacks that say the provider had the message."""


AT_ONCE = frozenset(("worker_lost", "taken_back", "stopped", "ownership_too_old", "marks_unavailable"))
"""Why a call did not begin for a reason that lies with us, not the provider: gated again at once."""


def parse(result_id: str) -> tuple[str, int, str]:
    """Touch, call number and purpose of a result's id `<touch>:<calls>[/<purpose>]`."""
    call, _, purpose = result_id.partition("/")
    touch, _, number = call.rpartition(":")
    return touch, int(number), purpose


def keys_of(item: Results) -> dict[str, None]:
    """The states that answers touch."""
    return dict.fromkeys(send_key(parse(result.id)[0]) for result in item.results)


def on_results(parts: Parts, item: Results, states: States, now: int) -> Iterator[Outcome]:
    """Answers that came together: what `on_result` says of each, the usual ones on the short way, and one task
    for all marks that may go."""
    done: dict[int, list[str]] = {}
    for result in item.results:
        id, answer = result.id, result.answer
        touch_id, _, number = id.rpartition(":")
        if type(answer) is Answer and answer.verdict is _ACCEPTED and number.isdecimal():
            state: SendState | None = states.get(f"o:{touch_id}")
            if state is not None and state.status == _SUBMITTING and state.calls == int(number):
                yield from ended(parts, result, send_of(state), state, Status.ACCEPTED, now, answer)
                if state.gen:
                    done.setdefault(state.gen, []).append(id)
                continue
        yield from on_result(parts, result, states, now)
    for gen, (first, *more) in done.items():
        yield Perform(f"{first}/forget", Forget(first, gen, tuple(more)))


_ACCEPTED, _SUBMITTING = Verdict.ACCEPTED, Status.SUBMITTING.value


def on_result(parts: Parts, item: Result, states: States, now: int) -> Iterator[Outcome]:
    """An answer of the effector. One that no longer fits the state (the call was settled since, or
    another one was made) changes nothing."""
    touch_id, calls, purpose = parse(item.id)
    state: SendState | None = states.get(send_key(touch_id))
    if state is None or state.calls != calls or state.status not in (Status.SUBMITTING, Status.UNKNOWN):
        yield Drop("late_answer")
        return
    # anything else is the effector's own failure: whether bytes left is not known then
    answer = item.answer if isinstance(item.answer, Answer) else Answer(Verdict.UNKNOWN, reason="effector_error")
    send = send_of(state)
    if purpose.startswith("ask"):
        if state.status == Status.UNKNOWN and answer.verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
            yield from settle(parts, item, send, state, answer, states, now)
        else:
            yield from asked(parts, send, state, answer, int(purpose.removeprefix("ask")), now)
    elif state.status == Status.UNKNOWN and answer.verdict == Verdict.UNKNOWN:
        yield Drop("still_unknown")
    else:
        yield from settle(parts, item, send, state, answer, states, now)


def settle(
    parts: Parts, item: Input, send: Send, state: SendState, answer: Answer, states: States, now: int
) -> Iterator[Outcome]:
    """What follows from the answer to a call that is open or of unknown outcome."""
    touch_id = send.touch_id
    if state.status == Status.UNKNOWN:
        yield CancelTimer(send_key(touch_id), RECONCILE)
    if state.confirmed and answer.verdict != Verdict.ACCEPTED:
        # a callback came before the answer, or in its place
        answer = Answer(Verdict.ACCEPTED)
    match answer.verdict:
        case Verdict.ACCEPTED:
            yield from final(parts, item, send, state, Status.ACCEPTED, now, answer)
        case Verdict.REJECTED:
            yield from final(parts, item, send, state, Status.REJECTED, now, answer)
        case Verdict.BLOCKED:
            stopped = msgspec.structs.replace(answer, reason="consent_denied")
            yield from final(parts, item, send, state, Status.REJECTED, now, stopped)
        case Verdict.RETRY:
            tried = msgspec.structs.replace(state, tries=state.tries + 1)
            wait = waits.retry_wait(parts.retry_waits, tried.tries, touch_id, state.calls, answer.after)
            if wait is None:
                yield from final(parts, item, send, tried, Status.REJECTED, now, answer)
            else:
                yield from postpone(send, tried, Status.RETRY, now, wait, answer.reason)
                yield from forget(state, touch_id)
        case Verdict.NOT_SENT:
            ours = answer.reason in AT_ONCE
            wait = 0 if ours else waits.unsent_wait(touch_id, state.calls, answer.after)
            yield from postpone(send, state, Status.QUEUED, now, wait, answer.reason)
            yield from forget(state, touch_id)
        case Verdict.UNKNOWN:
            yield from become_unknown(parts, item, send, state, answer, now)


def on_callback(parts: Parts, item: Record, message: Delivery, states: States, now: int) -> Iterator[Outcome]:
    """A provider's callback about one of our messages: it settles an unknown outcome."""
    key = send_key(message.touch_id)
    state: SendState | None = states.get(key)
    if state is None:
        yield Drop("not_mine")
        return
    answer = Answer(Verdict.ACCEPTED, message.provider, message.provider_id)
    if state.status == Status.UNKNOWN:
        yield from settle(parts, item, send_of(state), state, answer, states, now)
    elif state.status in _OPEN and state.doubted:
        # looked up in vain and about to go again: it had arrived after all
        yield CancelTimer(key, GO)
        yield from final(parts, item, send_of(state), state, Status.ACCEPTED, now, answer)
    elif state.status == Status.SUBMITTING and not state.confirmed:
        yield Save(key, msgspec.structs.replace(state, confirmed=True))
    else:
        yield Drop("no_news")


def stop_flags(states: States) -> dict[tuple[str, str], str]:
    """The partition's stop flags, for the effector: (workspace, campaign or "*") -> state."""
    flags: dict[tuple[str, str], str] = {}
    for key, flag in states.globals("g:stop:"):
        workspace, _, campaign = key.removeprefix("g:stop:").partition(":")
        flags[workspace, campaign] = flag.state
    return flags
