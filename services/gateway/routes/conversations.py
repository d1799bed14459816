"""Conversations with members: read, answer, close."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid
from rondo_protos.community.v1 import community_pb2 as pb
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.members import choice_of, find, id_type_of, limit_of

router = APIRouter(prefix="/v1/conversations", tags=["conversations"])
Read = Annotated[Grant, Depends(needs("conversations:read"))]
Write = Annotated[Grant, Depends(needs("conversations:write"))]
MAX_TEXT = 4096


class Reply(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@router.get("", summary="Conversations, newest first; ?member= of one member, ?status=open")
async def listing(request: Request, grant: Read) -> Response:
    kind, member_id, who = id_type_of(request), "", request.query_params.get("member")
    if who:
        member_id = (await find(request, grant.workspace, who, kind)).member_id
    wanted = pb.ListConversationsRequest(
        workspace=grant.workspace,
        member_id=member_id,
        status=choice_of(request, "status", ("open", "closed")) or "",
        cursor=request.query_params.get("cursor", ""),
        limit=limit_of(request),
    )
    found = await request.app.state.clients.community.ListConversations(wanted)
    return raw_json({"data": msgspec.Raw(found.data_json), "next_cursor": found.next_cursor or None})


@router.get("/{id}", summary="A conversation with its messages")
async def get(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetConversationRequest(workspace=grant.workspace, id=id)
    found = await request.app.state.clients.community.GetConversation(wanted)
    return raw_json(msgspec.Raw(found.conversation_json))


@router.post("/{id}/reply", status_code=202, summary="Answer the member by the channel they wrote on")
async def reply(id: str, request: Request, grant: Write) -> Response:
    body = await web.read(request, Reply)
    if not body.text.strip() or len(body.text) > MAX_TEXT:
        raise Problem(
            422,
            "invalid-request",
            "The text is not valid",
            errors=[invalid("/text", "invalid", f"1 to {MAX_TEXT} characters")],
        )
    wanted = pb.ReplyRequest(
        workspace=grant.workspace,
        id=id,
        text=body.text,
        actor=grant.id,
        request_id=request.headers.get("idempotency-key", ""),
    )
    answer = await request.app.state.clients.community.Reply(wanted, timeout=15)
    return JSONResponse({"conversation_id": id, "touch_id": answer.touch_id}, 202)


@router.post("/{id}/close", summary="Close it: the member may get campaigns again")
async def close(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.CloseRequest(workspace=grant.workspace, id=id, actor=grant.id)
    answer = await request.app.state.clients.community.Close(wanted, timeout=15)
    return raw_json(msgspec.Raw(answer.conversation_json))
