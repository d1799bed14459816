"""The sandbox's inbox: capture's own API behind a key, one workspace's messages only."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.keys import Grant
from services.gateway.access import needs
from services.gateway.forward import forward
from services.gateway.members import choice_of
from services.gateway.routes.templates import CHANNELS

router = APIRouter(prefix="/v1/inbox", tags=["inbox"])
Read = Annotated[Grant, Depends(needs("inbox:read"))]
Write = Annotated[Grant, Depends(needs("inbox:write"))]


async def _pass(request: Request, grant: Grant) -> Response:
    query = {**request.query_params, "workspace": grant.workspace}
    headers = {"content-type": request.headers.get("content-type", "application/json")}
    return await forward(request, request.app.state.settings.url_capture, "the inbox", query, headers=headers)


@router.get("/messages", summary="Captured messages, newest first")
async def messages(request: Request, grant: Read) -> Response:
    choice_of(request, "channel", CHANNELS)
    return await _pass(request, grant)


@router.get("/stats", summary="How many were captured, and whether any touch came twice")
async def stats(request: Request, grant: Read) -> Response:
    return await _pass(request, grant)


@router.delete("/messages", summary="Empty the inbox", status_code=204)
async def clear(request: Request, grant: Write) -> Response:
    return await _pass(request, grant)


@router.get("/messages/{id}", summary="One captured message")
async def one(id: str, request: Request, grant: Read) -> Response:
    return await _pass(request, grant)


@router.get("/messages/{id}/raw", summary="A message as received")
async def raw(id: str, request: Request, grant: Read) -> Response:
    return await _pass(request, grant)


@router.post(
    "/messages/{id}/{action}",
    summary="Act as the member: reply, open, click, scan, bounce, complain, unsubscribe",
    status_code=202,
)
async def act(id: str, action: str, request: Request, grant: Write) -> Response:
    return await _pass(request, grant)
