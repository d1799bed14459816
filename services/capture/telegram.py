"""Telegram's sendMessage, as far as a bot can tell.

Telegram has no field that comes back, so what a message carries of its cause stands in the W3C
`baggage` header of the call, which the real API ignores.
"""

from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rondo_common.clock import Clock, iso
from services.capture.acts import Acts
from services.capture.magic import Counter, of_chat
from services.capture.mime import links_of
from services.capture.model import Message
from services.capture.store import Inbox


def _error(status: int, words: str, **parameters: Any) -> Response:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": words}
    if parameters:
        body["parameters"] = parameters
    return JSONResponse(body, status)


def baggage(header: str) -> dict[str, str]:
    """Key and value pairs of a W3C baggage header."""
    pairs = (item.partition("=") for item in header.split(",") if "=" in item)
    return {k.strip(): unquote(v.partition(";")[0].strip()) for k, _, v in pairs}


def app(inbox: Inbox, acts: Acts, clock: Clock, token: str) -> Starlette:
    """POST /bot<token>/sendMessage with a JSON body; 401 with another token."""
    counter = Counter()

    async def send(request: Request) -> Response:
        if token and request.path_params["token"] != token:
            return _error(401, "Unauthorized")
        raw = await request.body()
        try:
            body = msgspec.json.decode(raw)
            chat, text = str(body["chat_id"]), str(body["text"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return _error(400, "Bad Request: chat_id and text are required")
        if not text or len(text) > 4096:
            return _error(400, "Bad Request: message text is empty" if not text else "Bad Request: message is too long")
        args = baggage(request.headers.get("baggage", ""))
        plan = of_chat(chat)
        match counter.verdict(plan, args.get("t") or chat):
            case "blocked":
                return _error(403, "Forbidden: bot was blocked by the user")
            case "429":
                return _error(429, "Too Many Requests: retry after 2", retry_after=2)
            case "500":
                return _error(500, "Internal Server Error")
        now = clock.now()
        links, _ = links_of(None, text)
        id = inbox.next_id()
        message = Message(
            id=id,
            channel="messaging",
            provider="telegram",
            provider_id=id[1:],
            sender="bot",
            to=chat,
            received_at=iso(now),
            at=now,
            args=args,
            text=text,
            links=links,
            size=len(raw),
            raw=raw,
        )
        inbox.add(message)
        acts.taken(message, plan.act, plan.text)
        result = {
            "message_id": int(id[1:]),
            "date": now // 1000,
            "chat": {"id": body["chat_id"], "type": "private"},
            "text": text,
        }
        return JSONResponse({"ok": True, "result": result})

    return Starlette(routes=[Route("/bot{token}/sendMessage", send, methods=["POST"])])
