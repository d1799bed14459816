"""The sandbox's inbox: capture's own API behind a key, one workspace's messages only."""

from typing import Annotated

import httpx
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.keys import Grant
from rondo_common.problems import unavailable
from services.gateway.access import needs

router = APIRouter(prefix="/v1/inbox", tags=["inbox"])
Read = Annotated[Grant, Depends(needs("inbox:read"))]
Write = Annotated[Grant, Depends(needs("inbox:write"))]


async def _pass(request: Request, grant: Grant) -> Response:
    state = request.app.state
    query = {**request.query_params, "workspace": grant.workspace}
    try:
        answer = await state.clients.http.request(
            request.method,
            state.settings.url_capture + request.url.path,
            params=query,
            content=await request.body(),
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
    except httpx.HTTPError as e:
        raise unavailable("the inbox", "The capture process does not answer") from e
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


@router.get("/messages", summary="Captured messages, newest first")
async def messages(request: Request, grant: Read) -> Response:
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
