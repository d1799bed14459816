"""What each input does to a member's agenda. Pure; the stage finds state and policies for it."""

from collections.abc import Iterable, Iterator

import msgspec

from rondo_common import active
from rondo_common.clock import from_iso
from rondo_common.outcomes import Drop, Outcome, Save, StartSweep
from rondo_common.records import Command, CommunityEvent, Contact, Move, Touch
from rondo_common.stage import States
from services.rhythm import merges, talks
from services.rhythm.agenda import Agenda, parked
from services.rhythm.model import (
    Cancels,
    Moved,
    PolicySet,
    Settled,
    Snapshot,
    Told,
    cancels_key,
    mark_prefix,
    policies_key,
)
from services.rhythm.policies import KINDS
from services.rhythm.snapshots import snapshot

CANCEL = b"cancel"
RESUME = b"resume"
POLICY = b"policy"
BY_POLICY = frozenset(("quiet_hours", "budget_exceeded", "min_gap"))
"""Reasons of deferrals that another version of a policy may end sooner."""
STOPS = ("campaign.pause", "campaign.resume", "campaign.cancel", "stop.on", "stop.off", "run.start")
OUTCOMES = frozenset(("accepted", "rejected", "unknown", "returned", "cancelled"))
"""Delivery's own statuses; what callbacks say later changes nothing here."""

_moved = msgspec.json.Decoder(Moved)


def merged(agenda: Agenda) -> bool:
    """Whether the member is spoken to under another id."""
    return agenda.member.contact is not None and agenda.member.contact.merged_into is not None


def on_touch(agenda: Agenda, touch: Touch, raw: bytes) -> Iterable[Outcome]:
    if merged(agenda):
        slot = parked(touch, raw, agenda.now, agenda.campaigns.cancels(touch.campaign))
        return merges.forward(agenda, Moved(agenda=(slot,)))
    reason = agenda.arrive(touch, raw)
    return agenda.finish() if reason is None else (Drop(reason),)


def on_contact(agenda: Agenda, contact: Contact | None, secret: bytes) -> Iterator[Outcome]:
    """`contact` None: a tombstone, the member was erased."""
    found = snapshot(contact, secret) if contact is not None else Snapshot(erased=True)
    if found.merged_into == agenda.member_id:
        yield Drop("merged_into_itself")
        return
    agenda.member = msgspec.structs.replace(agenda.member, contact=found)
    if merged(agenda):
        going = merges.everything(agenda.member)
        agenda.slots.clear()
        agenda.member = msgspec.structs.replace(agenda.member, ledger=(), talks={})
        yield from agenda.finish()
        if going != Moved():
            yield from merges.forward(agenda, going)
        return
    if found.erased:
        agenda.decide_waiting("")
    else:
        agenda.decide_all([s for s in agenda.slots.values() if s.status == "arriving"])
    yield from agenda.finish()


def on_move(agenda: Agenda, move: Move) -> Iterator[Outcome]:
    moved = _moved.decode(move.state)
    if merged(agenda):
        if move.revision <= agenda.member.absorbed.get(move.origin, 0):
            yield Drop("moved_before")
            return
        seen = {**agenda.member.absorbed, move.origin: move.revision}
        agenda.member = msgspec.structs.replace(agenda.member, absorbed=seen)
        yield from merges.forward(agenda, moved, move.hops + 1)
        return
    reason = merges.absorb(agenda, move, moved)
    if reason is not None:
        yield Drop(reason)
        return
    yield from agenda.finish()


def on_community(agenda: Agenda, event: CommunityEvent) -> Iterator[Outcome]:
    told = talks.told(agenda.member.talks, event)
    if told is None:
        yield Drop("nothing_new")
        return
    if merged(agenda):
        yield from merges.forward(agenda, Moved(talks=told))
        return
    agenda.member = msgspec.structs.replace(agenda.member, talks=told)
    if agenda.member.conversation() is None:
        agenda.decide_waiting("open_dialogue")
    yield from agenda.finish()


def on_delivery(agenda: Agenda, d: Told) -> Iterable[Outcome]:
    settled = Settled(d.touch_id, d.attempt, d.status, from_iso(d.at))
    if merged(agenda):
        return merges.forward(agenda, Moved(settled=(settled,)))
    reason = agenda.settle(settled)
    return agenda.finish() if reason is None else (Drop(reason),)


def on_command(command: Command, states: States) -> Iterator[Outcome]:
    if command.kind == "definition.activated":
        yield from _activate(command, states)
    elif command.kind in STOPS:
        yield from active.stop(command)
        if command.kind == "campaign.cancel":
            yield from _count_cancel(command, states)
            prefix = mark_prefix(command.workspace, command.campaign or "")
            yield StartSweep(f"cancel:{command.id}", prefix, CANCEL)
        elif command.kind in ("campaign.resume", "stop.off"):
            campaign = None if command.kind == "stop.off" else command.campaign or ""
            yield StartSweep(f"resume:{command.id}", mark_prefix(command.workspace, campaign), RESUME)
    else:
        yield Drop("not_mine")


def on_swept(agenda: Agenda, campaign: str, payload: bytes) -> Iterator[Outcome]:
    """One member with waiting touches of a campaign that was cancelled or goes on, or of any campaign when a
    policy has changed. What came after the command belongs to a later run and is left alone by a cancel."""
    of_it = [s for s in agenda.slots.values() if s.waiting and s.campaign == campaign]
    if payload == CANCEL:
        agenda.decide_all([s for s in of_it if agenda.cancelled(s)])
    elif payload == POLICY:
        # of all campaigns at once: they compete for the same room
        agenda.reconsider([s for s in agenda.slots.values() if s.waiting and s.reason in BY_POLICY])
    else:
        agenda.decide_all([s for s in of_it if s.reason == "campaign_paused"])
    yield from agenda.finish()


def _count_cancel(command: Command, states: States) -> Iterator[Outcome]:
    """Count the cancel, once however often it comes."""
    key = cancels_key(command.workspace, command.campaign or "")
    known: Cancels | None = states.get(key)
    if known is None or known.last != command.id:
        yield Save(key, Cancels(1 if known is None else known.count + 1, command.id))


def _activate(command: Command, states: States) -> Iterator[Outcome]:
    d = command.definition
    if d is None or d.kind not in KINDS:
        yield Drop("not_mine")
        return
    key = policies_key(d.workspace)
    known: PolicySet | None = states.get(key)
    policies = known.policies if known is not None else {}
    name = f"{d.kind}:{d.id}"
    if name in policies and policies[name].version >= d.version:
        yield Drop("known_version")
        return
    yield Save(key, PolicySet({**policies, name: d}))
    if name in policies:  # a new policy only holds back more
        yield StartSweep(f"policy:{command.id}", mark_prefix(d.workspace, None), POLICY)
