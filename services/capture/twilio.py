"""Twilio's Messages resource, as far as a sender can tell: create, and list by To."""

import asyncio
import base64
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rondo_common.clock import Clock, iso
from rondo_common.sms import segments
from services.capture.acts import Acts
from services.capture.magic import TWILIO_ERRORS, Counter, of_phone
from services.capture.mime import links_of
from services.capture.model import Message
from services.capture.smtp import STALL_S
from services.capture.store import Inbox


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return JSONResponse(body, status, headers)


def _resource(m: Message, account: str) -> dict[str, Any]:
    created = format_datetime(datetime.fromtimestamp(m.at / 1000, UTC))
    return {
        "sid": m.provider_id,
        "account_sid": account,
        "to": m.to,
        "from": m.sender,
        "body": m.text,
        "status": "queued",
        "num_segments": str(m.sms_segments),
        "num_media": "0",
        "direction": "outbound-api",
        "api_version": "2010-04-01",
        "date_created": created,
        "date_sent": created,
        "date_updated": created,
        "error_code": None,
        "error_message": None,
        "price": None,
        "price_unit": "USD",
        "messaging_service_sid": None,
        "uri": f"/2010-04-01/Accounts/{account}/Messages/{m.provider_id}.json",
        "subresource_uris": {},
    }


def app(inbox: Inbox, acts: Acts, clock: Clock, account: str, token: str) -> Starlette:
    """Basic auth with account and token. Twilio's own test numbers give Twilio's own errors."""
    counter = Counter()
    wanted = "Basic " + base64.b64encode(f"{account}:{token}".encode()).decode()

    def refused(request: Request) -> Response | None:
        if request.path_params["account"] != account or request.headers.get("authorization") != wanted:
            return _error(401, 20003, "Authenticate")
        return None

    async def create(request: Request) -> Response:
        if answer := refused(request):
            return answer
        await request.body()  # kept: the form is read from it, and the inbox shows it raw
        form = {k: str(v) for k, v in (await request.form()).items()}
        to, text = form.get("To", ""), form.get("Body", "")
        if not to or not text:
            return _error(400, 21604 if not to else 21602, "A 'To' phone number and a 'Body' are required.")
        if to in TWILIO_ERRORS:
            code, words = TWILIO_ERRORS[to]
            return _error(400, code, words)
        callback = form.get("StatusCallback")
        args = {k: v[0] for k, v in parse_qs(urlsplit(callback or "").query).items()}
        plan = of_phone(to)
        verdict = counter.verdict(plan, args.get("t") or to)
        if verdict == "429":
            return _error(429, 20429, "Too Many Requests", {"Retry-After": "2"})
        if verdict == "500":
            return _error(500, 20500, "Internal Server Error")
        now = clock.now()
        links, _ = links_of(None, text)
        message = Message(
            id=inbox.next_id(),
            channel="sms",
            provider="twilio",
            provider_id="SM" + uuid.uuid4().hex,
            sender=form.get("From", ""),
            to=to,
            received_at=iso(now),
            at=now,
            args=args,
            text=text,
            links=links,
            sms_segments=segments(text),
            size=len(text.encode()),
            callback=callback,
            raw=await request.body(),
        )
        inbox.add(message)
        acts.taken(message, plan.act, plan.text)
        if verdict == "500accepted":
            return _error(500, 20500, "Internal Server Error")
        if verdict == "timeout":
            await asyncio.sleep(STALL_S)
        return JSONResponse(_resource(message, account), 201)

    async def listing(request: Request) -> Response:
        if answer := refused(request):
            return answer
        found, _ = inbox.find(channel="sms", to=request.query_params.get("To"), limit=50)
        return JSONResponse(
            {"messages": [_resource(m, account) for m in found], "page": 0, "page_size": 50, "next_page_uri": None}
        )

    path = "/2010-04-01/Accounts/{account}/Messages.json"
    return Starlette(routes=[Route(path, create, methods=["POST"]), Route(path, listing, methods=["GET"])])
