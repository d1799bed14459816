"""Open conversations: read, answer, close."""

import uuid

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.dashboard.api.page import page
from services.dashboard.clients.gateway import Refused, path

DONE = {"reply": "The answer is on its way.", "close": "Closed. The hold on this member’s marketing is released."}
_REQUEST = uuid.UUID("5b8c2c58-2f43-4a0e-9a52-3f3f7d4c4d10")


async def listing(request: Request) -> Response:
    """All open ones, those who wait longest first."""
    await request.app.state.collector.fresh_talks()
    return await page(request, "conversations", done=DONE.get(request.query_params.get("done", ""), ""))


async def reply(request: Request) -> Response:
    """Answer by the channel the member wrote on. The same text to the same state of the conversation is
    the same request: a double click sends one answer."""
    id = request.path_params["id"]
    form = await request.form()
    text = str(form.get("text", "")).replace("\r\n", "\n").strip()
    same = str(uuid.uuid5(_REQUEST, f"{id}:{form.get('seen', '')}:{text}"))
    return await _do(request, "reply", {"text": text}, same)


async def close(request: Request) -> Response:
    """Close it."""
    return await _do(request, "close", {}, "")


async def _do(request: Request, what: str, body: dict[str, str], request_id: str) -> Response:
    try:
        await request.app.state.gateway.post(
            path("v1", "conversations", request.path_params["id"], what), body, request_id=request_id
        )
    except Refused as e:
        await request.app.state.collector.fresh_talks()
        return await page(request, "conversations", e.status, error=f"Not done: {e}")
    return RedirectResponse(f"/conversations?done={what}", 303)


routes = [
    Route("/conversations", listing, methods=["GET"]),
    Route("/conversations/{id}/reply", reply, methods=["POST"]),
    Route("/conversations/{id}/close", close, methods=["POST"]),
]
