"""State that follows a member when two turn out to be one."""

import msgspec


class Move(msgspec.Struct, omit_defaults=True):
    """On rondo.moves.v1, keyed workspace:winner: the state a stage kept for a merged-away member.
    `revision` rises with each move of one origin; `absorb` of the same or an older one changes
    nothing. `state` is the stage's own Struct as JSON."""

    stage: str
    workspace: str
    origin: str
    member_id: str
    """The winner."""
    revision: int
    state: msgspec.Raw
    hops: int = 0
