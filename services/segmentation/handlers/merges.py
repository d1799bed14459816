"""Members that end: merged away (their history follows to the winner) or erased."""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rondo_common import ids, topics
from rondo_common import records as rec
from rondo_common.outcomes import DeadLetter, Drop, Emit, Outcome, Save
from rondo_common.stage import Input, States
from services.segmentation import history
from services.segmentation.kept import opened, state_of
from services.segmentation.membership import Settling, Why
from services.segmentation.model import ERASED, NEVER, Member, state_key
from services.segmentation.ruleset import RuleSet

STAGE = "segmentation"
MOST_HOPS = 8
"""Forwards of a moved history from merged member to merged member."""


def gone(
    before: Member,
    after: Member,
    record: rec.MemberEvent | rec.Contact,
    item: Input,
    states: States,
    now: int,
    rules: RuleSet,
) -> Iterator[Outcome]:
    """The member doesn't count any more: it leaves its segments; merged away, its history follows."""
    event = record if isinstance(record, rec.MemberEvent) else None
    workspace, member_id = record.workspace, record.member_id
    if after.merged_into is not None:
        after = replace(after, revision=before.revision + 1)
        yield _moved(workspace, member_id, after, item)
    after = replace(after, inside=before.inside, timers=before.timers)
    cause = event.id if event else "contact"
    settling = Settling(
        workspace, member_id, after, Why(item.cause, cause, now, historical=bool(event and event.historical))
    )
    for segment in sorted({*before.inside, *before.timers}):
        settling.leave(segment, rules.versions.get(segment))
    yield from settling.outcomes(states)


def pass_on(workspace: str, member_id: str, member: Member, changed: bool, item: Input) -> Iterator[Outcome]:
    """Something new about a member that was merged away: send its history after the first."""
    if not changed:
        yield Drop("nothing_new")
        return
    member = replace(member, revision=member.revision + 1)
    yield _moved(workspace, member_id, member, item)
    yield Save(state_key(workspace, member_id), state_of(member))


def _moved(workspace: str, member_id: str, member: Member, item: Input) -> Emit:
    winner = member.merged_into or ""
    move = rec.Move(
        stage=STAGE,
        workspace=workspace,
        origin=member_id,
        member_id=winner,
        revision=member.revision,
        state=msgspec.Raw(msgspec.json.encode(state_of(history.portable(member)))),
    )
    id = ids.derived(item.cause, f"move:{member_id}:{winner}")
    return Emit(topics.MOVES, ids.member_key(workspace, winner), move, "state.moved", id, subject=winner)


def on_move(item: Input, move: rec.Move, states: States, now: int, rules: RuleSet) -> Iterator[Outcome]:
    """A merged-away member's history reaches the winner, or a winner that was itself merged away."""
    if move.stage != STAGE:
        yield Drop("not_mine")
        return
    before = opened(states.get(state_key(move.workspace, move.member_id)))
    if before.status == ERASED:
        yield Drop("erased")
        return
    if before.merged_into is not None:
        if move.hops >= MOST_HOPS:
            yield DeadLetter("loop", f"{move.hops} hops, now at {move.member_id}")
            return
        winner = before.merged_into
        onward = replace(move, member_id=winner, hops=move.hops + 1)
        id = ids.derived(item.cause, f"onward:{winner}")
        key = ids.member_key(move.workspace, winner)
        yield Emit(topics.MOVES, key, onward, "state.moved", id, subject=winner)
        return
    member = history.absorb(before, move.origin, move.revision, msgspec.json.decode(move.state, type=Member))
    if member is None:
        yield Drop("repeat")
        return
    settling = Settling(move.workspace, move.member_id, member, Why(item.cause, "merge", now, -NEVER))
    settling.evaluate(rules, rules.all if member.counts else ())
    yield from settling.outcomes(states)
