"""Commands, taking over a partition, and throwing away what is old. Pure."""

from collections.abc import Iterator

import msgspec

from rondo_common import active
from rondo_common.outcomes import Drop, Outcome, Perform, Save, SetTimer, StartSweep
from rondo_common.records import Command, SendState
from rondo_common.stage import Assigned, Record, States, SweepItem
from services.delivery.handlers.outcomes import settle, stop_flags
from services.delivery.handlers.parts import GO, WORKER, Parts, generation, member_key, send_key, send_of
from services.delivery.model import FINAL, Answer, Begin, Check, Held, Status, Stop, Verdict, Worker

LEFTOVERS = "leftovers"
"""Sweep after an assignment: finds calls written ahead by a predecessor."""
OLD = "old"
"""Daily sweep: throws away final sends."""
DAY = 86_400_000
CLEANER = "g:cleaner"
"""Owner of the daily timer."""
_STOPS = frozenset(("campaign.pause", "campaign.resume", "campaign.cancel", "stop.on", "stop.off", "run.start"))


def on_command(item: Record, command: Command, states: States, now: int) -> Iterator[Outcome]:
    """Templates become known here; pause, resume, cancel and the stop switch take effect. The effector
    hears of a stop once it is committed, and asks right before each call."""
    if command.kind == "definition.activated":
        if command.definition is not None and command.definition.kind == "template":
            yield from active.activate(command, states)
        else:
            yield Drop("not_mine")
        return
    if command.kind not in _STOPS:
        yield Drop("not_mine")
        return
    whole = command.kind.startswith("stop.")
    campaign = "*" if whole else command.campaign or ""
    before = states.get(active.stop_key(command.workspace, campaign))
    yield from active.stop(command)
    state = {"campaign.pause": "paused", "stop.on": "paused", "campaign.cancel": "cancelled"}.get(command.kind)
    if state is None and before is None:
        return
    yield Perform(f"stop:{states.partition}:{item.cause}", Stop(command.workspace, campaign, state))
    if state != "paused":
        # what was held is gated anew: it goes, or ends as cancelled
        prefix = f"h:{command.workspace}:" + ("" if whole else f"{campaign}:")
        yield StartSweep(f"release:{prefix}", prefix)


def on_assigned(item: Assigned, states: States, now: int) -> Iterator[Outcome]:
    """This worker owns the partition now: a new generation, in which every call is marked."""
    gen = generation(states) + 1
    yield Save(WORKER, Worker(gen))
    yield Perform(f"begin:{item.partition}:{gen}", Begin(gen, stop_flags(states)))
    yield StartSweep(LEFTOVERS, "o:", str(gen).encode())
    yield SetTimer(CLEANER, OLD, now - now % DAY + DAY)


def on_cleaner(now: int) -> Iterator[Outcome]:
    """Once a day: one sweep in place of a timer for each send."""
    yield StartSweep(OLD, "o:")
    yield SetTimer(CLEANER, OLD, now - now % DAY + DAY)


def on_sweep(parts: Parts, item: SweepItem, states: States, now: int) -> Iterator[Outcome]:
    """One state met by one of the three sweeps."""
    state = states.get(item.key)
    if isinstance(state, Held):
        yield from _released(item.key, state, states, now)
    elif not isinstance(state, SendState):
        return
    elif item.sweep == OLD:
        if state.at <= now - parts.keep and (state.status in FINAL or state.status == Status.UNKNOWN):
            yield Save(item.key, None)
    elif state.status == Status.SUBMITTING and state.gen < int(item.payload):
        yield from _left_over(parts, item, state, states, now)


def _left_over(parts: Parts, item: SweepItem, state: SendState, states: States, now: int) -> Iterator[Outcome]:
    """Written ahead by a predecessor that never recorded an answer: its mark tells whether it had begun."""
    if state.confirmed:
        yield from settle(parts, item, send_of(state), state, Answer(Verdict.ACCEPTED), states, now)
        return
    call = f"{item.key.removeprefix('o:')}:{state.calls}"
    yield Perform(f"{call}/check", Check(call, state.gen))


def _released(key: str, held: Held, states: States, now: int) -> Iterator[Outcome]:
    yield Save(key, None)
    _, workspace, _, touch_id = key.split(":", 3)
    owner = send_key(touch_id)
    state: SendState | None = states.get(owner)
    if state is not None and state.status == Status.HELD:
        yield Save(owner, msgspec.structs.replace(state, status=Status.QUEUED, at=now))
        yield SetTimer(owner, GO, now, member_key(workspace, held.member_id).encode())
