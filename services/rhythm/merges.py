"""State that follows a member who turned out to be another one (STREAMS 17). Pure.

The loser sends all it has to the winner when its contact says so, and later each touch, delivery and
conversation that still reaches it. Every such move has the next revision, so a repeat changes
nothing. A winner that was itself merged away sends on what it gets.
"""

from collections.abc import Iterator

import msgspec

from rondo_common import ids, topics
from rondo_common.outcomes import DeadLetter, Emit, Outcome, Save
from rondo_common.records import Move
from services.rhythm.agenda import Agenda
from services.rhythm.model import Member, Moved, state_key
from services.rhythm.talks import newer

STAGE = "rhythm"
MAX_HOPS = 8


def forward(agenda: Agenda, moved: Moved, hops: int = 0) -> Iterator[Outcome]:
    """Send `moved` from this merged-away member to its winner. The member's own agenda, ledger and
    conversations are empty afterwards."""
    member = agenda.member
    if member.contact is None or member.contact.merged_into is None:
        raise ValueError("only a merged-away member forwards")
    if hops > MAX_HOPS:
        yield DeadLetter("hops", f"moved {hops} times")
        return
    winner = member.contact.merged_into
    revision = member.moved + 1
    move = Move(
        stage=STAGE,
        workspace=agenda.workspace,
        origin=agenda.member_id,
        member_id=winner,
        revision=revision,
        state=msgspec.Raw(msgspec.json.encode(moved)),
        hops=hops,
    )
    key = ids.member_key(agenda.workspace, winner)
    yield Emit(topics.MOVES, key, move, "member.moved", ids.derived(f"{agenda.key}:{revision}", "rhythm.move"), winner)
    yield Save(state_key(agenda.key), msgspec.structs.replace(member, moved=revision))


def everything(member: Member) -> Moved:
    """All a member has that goes along."""
    return Moved(member.agenda, member.ledger, member.talks)


def absorb(agenda: Agenda, move: Move, moved: Moved) -> str | None:
    """Take over what came with a move. Returns the reason when there is nothing to do."""
    member = agenda.member
    if move.revision <= member.absorbed.get(move.origin, 0):
        return "moved_before"
    talks = dict(member.talks)
    for id, state in moved.talks.items():
        if id not in talks or talks[id][1] < state[1]:
            talks = newer(talks, id, *state)
    agenda.member = msgspec.structs.replace(
        member, absorbed={**member.absorbed, move.origin: move.revision}, talks=talks
    )
    for slot in moved.agenda:  # before their ledger lines, which would make them known touches
        agenda.add_moved(slot)
    for line in moved.ledger:
        agenda.add_spent(line)
    for settled in moved.settled:
        agenda.settle(settled)
    agenda.decide_due()
    if agenda.member.conversation() is None:
        agenda.decide_waiting("open_dialogue")
    return None
