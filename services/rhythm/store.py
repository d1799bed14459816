"""Reading a member's state, and policies, for people's questions."""

from rondo_common import ids
from rondo_common.definitions import DefinitionStore
from rondo_common.problems import unavailable
from rondo_common.streams.view import AsyncStateView, Unavailable
from services.rhythm.model import Member, PolicySet, state_key
from services.rhythm.policies import KINDS, Policies, compile_all

_HOPS = 8


class Members:
    """Members as the stage has them now."""

    def __init__(self, view: AsyncStateView, definitions: DefinitionStore):
        self._view = view
        self._definitions = definitions

    async def get(self, workspace: str, member_id: str) -> tuple[str, Member]:
        """The member, or the one it was merged into, and its state; an empty one when the gate has not
        heard of it. Problem 503 while the state can't be read."""
        member = Member()
        for _ in range(_HOPS):
            key = ids.member_key(workspace, member_id)
            try:
                member = await self._view.get(key, state_key(key)) or Member()
            except Unavailable as e:
                raise unavailable("rhythm", str(e)) from e
            if member.contact is None or member.contact.merged_into is None:
                break
            member_id = member.contact.merged_into
        return member_id, member

    def policies(self, workspace: str) -> Policies:
        """The newest policies of a workspace, ready for use."""
        found = {f"{d.kind}:{d.id}": d for kind in KINDS for d in self._definitions.list(workspace, kind)}
        return compile_all(PolicySet(found))
