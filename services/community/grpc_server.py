"""gRPC Community."""

import base64
import uuid
from typing import Any

import msgspec

from rondo_common import ids
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem, conflict, invalid, not_found
from rondo_protos.community.v1 import community_pb2 as pb
from rondo_protos.community.v1 import community_pb2_grpc
from services.community.agents import Agents
from services.community.model import Conversation, Work
from services.community.store import Conversations

MAX_PAGE = 500


def view(c: Conversation) -> dict[str, Any]:
    """A conversation as the API shows it (WIRE 9)."""
    return {
        "id": c.id,
        "status": c.status,
        "channel": c.channel,
        "member_id": c.member_id,
        "opened_at": c.opened_at,
        "closed_at": c.closed_at,
        "first_response_s": c.first_response_s,
        "assignee": c.assignee,
        "messages": [
            {"direction": m.direction, "text": m.text, "at": m.at, "touch_id": m.touch_id, "actor": m.actor}
            for m in c.messages
        ],
    }


class Community(community_pb2_grpc.CommunityServiceServicer):
    """Reads come from the view; changes are work for the conversation's partition."""

    def __init__(self, store: Conversations, agents: Agents, clock: Clock):
        self._store, self._agents, self._clock = store, agents, clock

    def _one(self, workspace: str, id: str) -> Conversation:
        good, why = self._store.ready()
        if not good:
            raise Problem(503, "unavailable", "Conversations are not available", why, headers={"Retry-After": "1"})
        found = self._store.get(workspace, id)
        if found is None:
            raise not_found("conversation", id)
        return found

    async def ListConversations(self, request: Any, context: Any) -> Any:
        if request.status not in ("", "open", "closed"):
            where = [invalid("/status", "unknown_status", "open or closed")]
            raise Problem(422, "invalid-request", "The status is not valid", errors=where)
        limit = max(1, min(request.limit or 100, MAX_PAGE))
        found = self._store.list(request.workspace, request.member_id, request.status)
        if request.cursor:
            try:
                at, id = msgspec.json.decode(base64.urlsafe_b64decode(request.cursor))
            except (ValueError, TypeError, msgspec.DecodeError) as e:
                where = [invalid("/cursor", "invalid", "use next_cursor")]
                raise Problem(422, "invalid-request", "The cursor is not one of ours", errors=where) from e
            found = [c for c in found if (c.opened_at, c.id) < (at, id)]
        page, rest = found[:limit], found[limit:]
        following = (
            base64.urlsafe_b64encode(msgspec.json.encode([page[-1].opened_at, page[-1].id])).decode() if rest else ""
        )
        return pb.ListConversationsResponse(
            data_json=msgspec.json.encode([view(c) for c in page]), next_cursor=following
        )

    async def GetConversation(self, request: Any, context: Any) -> Any:
        found = self._one(request.workspace, request.id)
        return pb.GetConversationResponse(conversation_json=msgspec.json.encode(view(found)))

    async def Reply(self, request: Any, context: Any) -> Any:
        c = self._one(request.workspace, request.id)
        if c.status != "open":
            raise conflict(
                "conversation-closed", "The conversation is closed", "A new message of the member opens another"
            )
        cause = request.request_id or str(uuid.uuid4())
        id = ids.derived(f"{c.workspace}:{c.id}:{cause}", "reply")
        touch = ids.touch_id(f"reply-{c.id}", "main", c.member_id, id)
        work = Work(
            "reply",
            id,
            c.workspace,
            c.member_id,
            iso(self._clock.now()),
            c.channel,
            request.text,
            touch,
            c.id,
            request.actor,
        )
        await self._agents.put(work)
        return pb.ReplyResponse(touch_id=touch)

    async def Close(self, request: Any, context: Any) -> Any:
        c = self._one(request.workspace, request.id)
        if c.status == "open":
            id = ids.derived(f"{c.workspace}:{c.id}", "close")
            work = Work(
                "close",
                id,
                c.workspace,
                c.member_id,
                iso(self._clock.now()),
                c.channel,
                conversation_id=c.id,
                actor=request.actor,
            )
            await self._agents.put(work)
            await self._store.until_seen(ids.derived(id, "conversation.closed"))
            c = self._one(request.workspace, request.id)
        return pb.CloseResponse(conversation_json=msgspec.json.encode(view(c)))
