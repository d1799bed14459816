"""Members that are merged or erased, and what moves with them."""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rondo_common import active, ids, topics
from rondo_common.outcomes import CancelTimer, Drop, Emit, Outcome, Save
from rondo_common.records import Command, MemberEvent, Move
from rondo_common.stage import States
from services.campaigns.bodies import campaign_of
from services.campaigns.handlers import outcomes, sends, triggers
from services.campaigns.model import Absorbed, MemberState, Moved, absorbed_key, member_state_key
from services.campaigns.reentry import changed, folded, remembers


def on_merged(event: MemberEvent, states: States, cause: str, now: int) -> Iterator[Outcome]:
    """member.merged: at the loser its state goes to the winner, at the winner the loser is noted."""
    if event.merged_into:
        yield from _given_away(event.workspace, event.member_id, event.merged_into, states, cause, now)
    elif event.merged_from:
        yield from _noted(event.workspace, event.member_id, event.merged_from, 0, states, cause, now)


def on_erased(event: MemberEvent, states: States, now: int) -> Iterator[Outcome]:
    """member.erased: nothing that waited for the member comes any more."""
    key = member_state_key(event.workspace, event.member_id)
    member: MemberState = states.get(key) or MemberState()
    after, more = triggers.call_off(member, key, sorted(n for n, p in member.pending.items() if not p.void), now)
    yield from more
    yield Save(key, MemberState(pending=after.pending, merged_into=member.merged_into, erased=True))


def on_created(event: MemberEvent, states: States) -> Iterator[Outcome]:
    """member.created: an erased member's id is in use again."""
    key = member_state_key(event.workspace, event.member_id)
    member: MemberState | None = states.get(key)
    if member is None or not member.erased:
        yield Drop("not_needed")
        return
    after = replace(member, erased=False)
    yield Save(key, None if after.empty else after)


def on_move(
    move: Move, moved: Moved, about: outcomes.About | None, cause: str, states: States, now: int
) -> Iterator[Outcome]:
    """A move of this stage: a member's state, or one record for this partition."""
    for what in ("decision", "delivery", "engagement"):
        raw = getattr(moved, what)
        if raw is not None and about is not None:
            here = replace(about, member_id=move.member_id)
            yield from outcomes.on_report(what, here, bytes(raw), cause, states, now, move.hops)
            return
    if moved.command is not None:
        command = msgspec.json.decode(moved.command, type=Command)
        if command.kind == "send":
            yield from sends.on_send(command, states, now, move.hops)
        else:
            yield from triggers.on_api(command, states, now, move.hops)
        return
    yield from _taken_in(move, moved.fold or MemberState(), states, cause, now)


def _given_away(workspace: str, member_id: str, winner: str, states: States, cause: str, now: int) -> Iterator[Outcome]:
    key = member_state_key(workspace, member_id)
    member: MemberState = states.get(key) or MemberState()
    if member.merged_into:
        yield Drop("repeat")
        return
    for name in sorted(member.pending):
        yield CancelTimer(key, name)
    yield Save(key, MemberState(merged_into=winner))
    fold = MemberState(entries=member.entries, pending=member.pending)
    if not fold.empty:
        yield _fold_move(Move("campaigns", workspace, member_id, winner, now, _raw(fold)), cause)


def _fold_move(move: Move, cause: str) -> Emit:
    id = ids.derived(cause, f"move:{move.origin}:{move.member_id}")
    return Emit(topics.MOVES, ids.member_key(move.workspace, move.member_id), move, "state.moved", id, move.member_id)


def _taken_in(move: Move, fold: MemberState, states: States, cause: str, now: int) -> Iterator[Outcome]:
    """The winner takes in what a loser had. The same move again changes nothing."""
    workspace, member_id = move.workspace, move.member_id
    absorbed: Absorbed = states.get(absorbed_key(workspace, member_id)) or Absorbed()
    if absorbed.origins.get(move.origin, 0) >= move.revision:
        yield Drop("repeat")
        return
    key = member_state_key(workspace, member_id)
    member: MemberState = states.get(key) or MemberState()
    yield from _noted(workspace, member_id, move.origin, move.revision, states, cause, now)
    if member.merged_into:
        if move.hops >= triggers.MOST_HOPS:
            yield Drop("hops")
            return
        onward = msgspec.structs.replace(move, member_id=member.merged_into, hops=move.hops + 1)
        yield _fold_move(onward, cause)
        return

    def limited(campaign: str, version: int) -> bool:
        definition = active.exact(states, workspace, "campaign", campaign, version)
        return definition is not None and remembers(campaign_of(definition))

    entries, pending = folded(member, fold, limited)
    came, went = changed(member.pending, pending)
    for name in went:
        yield CancelTimer(key, name)
    for name in came:
        yield triggers.timer_of(key, name, pending[name])
    dropped = [n for n, p in fold.pending.items() if n not in pending and p.kind == "api"]
    for name in [*dropped, *(n for n in went if member.pending[n].kind == "api")]:
        entry = replace(fold.pending.get(name) or member.pending[name], void=True, due=now)
        pending[name] = entry
        yield triggers.timer_of(key, name, entry)
    yield Save(key, replace(member, entries=entries, pending=pending))


def _noted(
    workspace: str, member_id: str, origin: str, revision: int, states: States, cause: str, now: int
) -> Iterator[Outcome]:
    """Remember a merged member; reports that waited for it are passed on."""
    key = absorbed_key(workspace, member_id)
    absorbed: Absorbed = states.get(key) or Absorbed()
    known = absorbed.origins.get(origin)
    if known is not None and known >= revision:
        yield Drop("repeat")
        return
    yield Save(key, Absorbed({**absorbed.origins, origin: revision}))
    for i, message in enumerate(absorbed.waiting):
        yield from outcomes.passed_on(workspace, member_id, {origin: 0}, message, f"{cause}:{i}", now, 0)


def _raw(fold: MemberState) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(Moved(fold=fold)))
