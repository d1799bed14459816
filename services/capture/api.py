"""The inbox API (WIRE 9). The gateway stands in front of it and asks for a key; this port is inside."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rondo_common.clock import from_iso
from rondo_common.problems import Problem, invalid, not_found
from rondo_common.web import read_json
from services.capture.acts import Acts
from services.capture.model import Message, view
from services.capture.store import Inbox

ACTIONS = ("reply", "open", "click", "scan", "bounce", "complain", "unsubscribe")
MAX_PAGE = 500


def routes(inbox: Inbox, acts: Acts) -> list[Route]:
    def wanted(request: Request) -> Message:
        message = inbox.get(request.path_params["id"])
        workspace = request.query_params.get("workspace")
        if message is None or (workspace and message.args.get("w", workspace) != workspace):
            raise not_found("message", request.path_params["id"])
        return message

    async def listing(request: Request) -> Response:
        q = request.query_params
        try:
            limit = int(q.get("limit", "100"))
        except ValueError:
            limit = 0
        if not 1 <= limit <= MAX_PAGE:
            raise Problem(
                422,
                "invalid-request",
                "The limit is not valid",
                errors=[invalid("/limit", "out_of_range", f"1 to {MAX_PAGE}")],
            )
        try:
            since = from_iso(q["since"]) if "since" in q else None
        except ValueError as e:
            raise Problem(
                422, "invalid-request", "The time is not valid", str(e), [invalid("/since", "invalid_time", str(e))]
            ) from e
        cursor = q.get("cursor")
        if cursor is not None and not (cursor.startswith("i") and cursor[1:].isdigit()):
            raise Problem(
                422,
                "invalid-request",
                "The cursor is not one of ours",
                errors=[invalid("/cursor", "invalid", "use next_cursor")],
            )
        found, following = inbox.find(
            channel=q.get("channel"),
            to=q.get("to"),
            run_id=q.get("run_id"),
            campaign=q.get("campaign"),
            workspace=q.get("workspace"),
            q=q.get("q"),
            since=since,
            after=cursor,
            limit=limit,
        )
        return JSONResponse({"data": [view(m) for m in found], "next_cursor": following})

    async def one(request: Request) -> Response:
        return JSONResponse(view(wanted(request)))

    async def raw(request: Request) -> Response:
        message = wanted(request)
        kind = "message/rfc822" if message.provider == "smtp" else "application/octet-stream"
        return Response(message.raw, media_type=kind)

    async def act(request: Request) -> Response:
        message, action = wanted(request), request.path_params["action"]
        if action not in ACTIONS:
            raise not_found("action", action)
        body: dict[str, Any] = {}
        if await request.body():
            try:
                body = msgspec.json.decode(await read_json(request), type=dict[str, Any])
            except msgspec.DecodeError as e:
                raise Problem(400, "malformed", "The body is not a JSON object", str(e)) from e
        text, link = body.get("text", ""), body.get("link", 0)
        if not isinstance(text, str) or not isinstance(link, int):
            raise Problem(
                422, "invalid-request", "text is a text, link a number", errors=[invalid("/text", "invalid", "text")]
            )
        status = await acts.do(message, action, text=text, link=link)
        return JSONResponse({"id": message.id, "action": action, "status": status}, 202)

    async def stats(request: Request) -> Response:
        return JSONResponse(inbox.stats(request.query_params.get("workspace")))

    async def clear(request: Request) -> Response:
        inbox.clear(request.query_params.get("workspace") or None)
        return Response(status_code=204)

    base = "/v1/inbox/messages"
    return [
        Route(base, listing, methods=["GET"]),
        Route(base, clear, methods=["DELETE"]),
        Route("/v1/inbox/stats", stats, methods=["GET"]),
        Route(base + "/{id}", one, methods=["GET"]),
        Route(base + "/{id}/raw", raw, methods=["GET"]),
        Route(base + "/{id}/{action}", act, methods=["POST"]),
    ]
