"""SendGrid's mail send, as far as a sender can tell. One call, one mail per personalization."""

import asyncio
import uuid
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rondo_common.clock import Clock, iso
from services.capture.acts import Acts
from services.capture.cut import cut
from services.capture.magic import Counter, of_email
from services.capture.mime import links_of, unsubscribe_of
from services.capture.model import Message
from services.capture.smtp import SLOW_S, STALL_S
from services.capture.store import Inbox


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"errors": [{"message": message, "field": None, "help": None}]}, status, headers)


def _messages(body: dict[str, Any], raw: bytes, inbox: Inbox, now: int, call: str) -> list[Message]:
    parts = {c["type"]: c["value"] for c in body.get("content", [])}
    out = []
    for n, p in enumerate(body["personalizations"]):
        headers = {**body.get("headers", {}), **p.get("headers", {})}
        args = {**body.get("custom_args", {}), **p.get("custom_args", {})}
        if "t" not in args and "touch_id" in args:
            args["t"] = args["touch_id"]
        swaps = p.get("substitutions", {})
        text, html = parts.get("text/plain", ""), parts.get("text/html")
        subject = p.get("subject") or body.get("subject")
        for old, new in swaps.items():
            text, html, subject = (part.replace(old, new) if part else part for part in (text, html, subject))
        links, pixel = links_of(html, text)
        to = p["to"][0]["email"]
        out.append(
            Message(
                id=inbox.next_id(),
                channel="email",
                provider="sendgrid",
                provider_id=f"{call}.{n}",
                sender=body["from"]["email"],
                to=to,
                received_at=iso(now),
                at=now,
                args={k: str(v) for k, v in args.items()},
                subject=subject,
                text=text,
                html=html,
                headers=headers,
                links=links,
                size=len(raw),
                pixel=pixel,
                unsubscribe=unsubscribe_of(headers),
                message_id=headers.get("Message-ID"),
                raw=raw,
            )
        )
    return out


def app(inbox: Inbox, acts: Acts, clock: Clock, key: str) -> Starlette:
    """POST /v3/mail/send. 401 without a Bearer key (or with another than the configured one)."""
    counter = Counter()

    async def send(request: Request) -> Response:
        auth = request.headers.get("authorization", "")
        if not auth.startswith("Bearer ") or (key and auth != f"Bearer {key}"):
            return _error(401, "The provided authorization grant is invalid, expired, or revoked")
        raw = await request.body()
        try:
            body = msgspec.json.decode(raw)
            messages = _messages(body, raw, inbox, clock.now(), uuid.uuid4().hex)
        except (msgspec.DecodeError, KeyError, TypeError, IndexError, AttributeError) as e:
            return _error(400, f"Bad Request: {e!r}")
        if len(messages) > 1000:
            return _error(400, "The personalizations field may hold at most 1000 items")
        plan = of_email(messages[0].to)
        verdict = counter.verdict(plan, messages[0].args.get("t") or messages[0].to)
        match verdict:
            case "429":
                return _error(429, "too many requests", {"Retry-After": "2"})
            case "500":
                return _error(500, "internal error")
            case "reset":
                return await cut(request)
            case "slow":
                await asyncio.sleep(SLOW_S)
        for message in messages:
            own = of_email(message.to)
            inbox.add(message)
            if own.verdict in ("hardbounce", "softbounce"):
                soft = own.verdict == "softbounce"
                acts.event(
                    message,
                    "deferred" if soft else "bounce",
                    reason="451 mailbox full" if soft else "550 5.1.1 no such user",
                    **({} if soft else {"type": "bounce", "status": "5.1.1"}),
                )
            else:
                acts.taken(message, own.act, own.text)
        if verdict == "500accepted":
            return _error(500, "internal error")
        if verdict == "timeout":
            await asyncio.sleep(STALL_S)
        return Response(status_code=202, headers={"X-Message-Id": messages[0].provider_id.partition(".")[0]})

    return Starlette(routes=[Route("/v3/mail/send", send, methods=["POST"])])
