"""What all handlers of one input share."""

from typing import Any, NamedTuple

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.ids import derived, member_key
from rondo_common.outcomes import DeadLetter, Emit, Outcome
from rondo_common.records import MemberEvent, Routed
from services.profiles.model import MAX_HOPS, Member


class Case(NamedTuple):
    """One input on its way to one member. `cause` names the first input of the way, `now` is its log
    time (ms), `hops` how often it was forwarded, `minted` the kind of identifier that the member
    was (or is to be) minted from, `secret` the workspace's."""

    workspace: str
    member_id: str
    minted: str
    cause: str
    now: int
    hops: int
    secret: bytes

    @property
    def key(self) -> str:
        return member_key(self.workspace, self.member_id)

    def happened(self, kind: str, timestamp: str, purpose: str = "", **more: Any) -> Emit:
        """A member event. Its id follows from the cause, the member, the kind and `purpose`."""
        id = derived(self.cause, f"{self.member_id}:{kind}:{purpose}")
        value = MemberEvent(self.workspace, self.member_id, kind, id, timestamp, **more)
        return Emit(topics.MEMBER_EVENTS, self.key, value, kind, id, self.member_id)


def routed(case: Case, kind: str, to: str, minted: str, hops: int = 0, **payload: Any) -> Emit:
    """A message to the keeper of member `to`."""
    value = Routed(kind, case.workspace, to, case.cause, iso(case.now), hops=hops, minted=minted, **payload)
    return Emit(topics.ROUTED, member_key(case.workspace, to), value, f"profiles.{kind}", subject=to)


def forward(case: Case, member: Member, kind: str, **payload: Any) -> list[Outcome]:
    """Send an input on from a merged-away member to where it went."""
    if member.merged_into is None:
        raise ValueError("only a merged-away member forwards")
    if case.hops >= MAX_HOPS:
        return [DeadLetter("hops", f"forwarded {case.hops} times, last by {case.member_id}")]
    return [routed(case, kind, member.merged_into, member.merged_minted, case.hops + 1, **payload)]
