"""Small providers on real sockets for the tests of delivery: an SMTP server, and HTTP in the shapes of
SendGrid, Twilio and Telegram. What an address makes them do follows its tag or number, as in WIRE 9.

    with SmtpServer() as smtp:      smtp.url, smtp.mails
    with HttpProvider() as http:    http.url, http.requests, http.taken
"""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.slowness import PATIENT

STALL_S = 60.0


class _Threaded:
    """An event loop in a thread, for as long as the server lives."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        def main() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._open())
            ready.set()
            self._loop.run_forever()
            self._loop.run_until_complete(self._shut())
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

        self._thread = threading.Thread(target=main, daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _open(self) -> None:
        raise NotImplementedError

    async def _shut(self) -> None:
        raise NotImplementedError


@dataclass
class Mail:
    """One accepted mail."""

    sender: str
    to: str
    data: bytes

    def parsed(self) -> EmailMessage:
        found = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def touch_id(self) -> str:
        return str(self.parsed()["Message-ID"]).strip("<>").rpartition("@")[0]


def tag_of(address: str) -> str:
    local = address.rpartition("@")[0]
    return local.rpartition("+")[2] if "+" in local else ""


class _Session(SMTP):
    """One connection; `server` keeps what came."""

    def __init__(self, server: "SmtpServer"):
        self.owner = server
        super().__init__(server, enable_SMTPUTF8=False, ident="test", loop=asyncio.get_running_loop())
        server.connections += 1


class SmtpServer(_Threaded):
    """Tags: hardbounce (550), policy (550 5.7.1), softbounce (451 always), 451once, 421once, datafail (554 after
    the body), timeout (takes it, never answers), reset (cut after the body, not taken), resettaken (cut, taken),
    slow (answers after `slow_s`). `latency` delays every answer to a body."""

    def __init__(self, port: int = 0, pipelining: bool = True, latency: float = 0.0, slow_s: float = 3.0):
        self.port = port
        self.mails: list[Mail] = []
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self._pipelining = pipelining
        self._latency = latency
        self._slow_s = slow_s

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def touches(self) -> Counter[str]:
        """How often each touch was taken."""
        return Counter(m.touch_id for m in self.mails)

    async def _open(self) -> None:
        self._sessions: set[_Session] = set()

        def made() -> _Session:
            session = _Session(self)
            self._sessions.add(session)
            return session

        self._server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.abort()
        await asyncio.sleep(0.02)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]] if self._pipelining else responses

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        tag = tag_of(address)
        self.seen[f"{tag}:{address}"] += 1
        if tag == "hardbounce":
            return f"550 5.1.1 <{address}>: no such user"
        if tag == "policy":
            return "550 5.7.1 not wanted here"
        if tag == "softbounce" or (tag == "451once" and self.seen[f"{tag}:{address}"] == 1):
            return "451 4.7.1 try again later"
        if tag == "421once" and self.seen[f"{tag}:{address}"] == 1:
            return "421 4.3.2 too busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        to = envelope.rcpt_tos[0]
        tag = tag_of(to)
        if tag == "datafail":
            return "554 5.6.0 can't take this"
        if tag == "reset":
            server.transport.abort()
            return "250 OK"
        assert isinstance(envelope.content, bytes)
        self.mails.append(Mail(envelope.mail_from or "", to, envelope.content))
        if tag == "resettaken":
            server.transport.abort()
        elif tag == "timeout":
            await asyncio.sleep(STALL_S)
        elif tag == "slow":
            await asyncio.sleep(self._slow_s)
        elif self._latency:
            await asyncio.sleep(self._latency)
        return "250 2.0.0 OK queued"


@dataclass
class Taken:
    """One message an HTTP provider took."""

    provider: str
    to: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class HttpProvider(_Threaded):
    """SendGrid (/v3/mail/send), Twilio (/2010-04-01/...) and Telegram (/bot<token>/sendMessage) on one port.
    E-mail tags 429 (once), 500, 500accepted, timeout, bad; numbers and chats as in WIRE 9."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.requests: Counter[str] = Counter()
        self.raw: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _open(self) -> None:
        account = "/2010-04-01/Accounts/{account}/Messages.json"
        app = Starlette(
            routes=[
                Route("/v3/mail/send", self._sendgrid, methods=["POST"]),
                Route(account, self._twilio, methods=["POST"]),
                Route(account, self._twilio_list, methods=["GET"]),
                Route("/bot{token}/sendMessage", self._telegram, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off")
        self._uvicorn = uvicorn.Server(config)
        self._uvicorn.install_signal_handlers = lambda: None  # type: ignore[method-assign]
        self._serving = asyncio.create_task(self._uvicorn.serve())
        deadline = time.monotonic() + PATIENT * 10
        while not self._uvicorn.started and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.port = self._uvicorn.servers[0].sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._uvicorn.force_exit = self._uvicorn.should_exit = True
        await asyncio.wait((self._serving,), timeout=5)

    async def _sendgrid(self, request: Request) -> Response:
        raw = await request.body()
        self.raw.append(raw)
        body = await request.json()
        to = body["personalizations"][0]["to"][0]["email"]
        tag = tag_of(to)
        self.requests[to] += 1
        if tag == "bad":
            return JSONResponse({"errors": [{"message": "Does not contain a valid address.", "field": "to"}]}, 400)
        if tag == "429" and self.requests[to] == 1:
            return JSONResponse({}, 429, {"Retry-After": "2"})
        if tag == "500":
            return JSONResponse({}, 500)
        self.taken.append(Taken("sendgrid", to, body, dict(request.headers)))
        if tag == "500accepted":
            return JSONResponse({}, 500)
        if tag == "timeout":
            await asyncio.sleep(STALL_S)
        return Response(status_code=202, headers={"X-Message-Id": f"sg{len(self.taken)}"})

    async def _twilio(self, request: Request) -> Response:
        raw = await request.body()
        self.raw.append(raw)
        form = {k: v[0] for k, v in parse_qs(raw.decode(), keep_blank_values=True).items()}
        to = form["To"]
        self.requests[to] += 1
        errors = {"+15005550001": 21211, "+15005550002": 21612, "+15005550003": 21408, "+15005550004": 21610}
        errors["+15005550009"] = 21614
        if to in errors:
            return JSONResponse({"code": errors[to], "message": "no", "status": 400}, 400)
        if to == "+15005551429" and self.requests[to] == 1:
            return JSONResponse({"code": 20429}, 429, {"Retry-After": "2"})
        if to == "+15005551500" and self.requests[to] <= 2:
            return JSONResponse({"code": 20500}, 500)
        self.taken.append(Taken("twilio", to, form, dict(request.headers)))
        if to == "+15005551501":
            return JSONResponse({"code": 20500}, 500)
        if to == "+15005551504":
            await asyncio.sleep(STALL_S)
        return JSONResponse(self._resource(len(self.taken) - 1), 201)

    def _resource(self, index: int) -> dict[str, Any]:
        t = self.taken[index]
        return {"sid": f"SM{index}", "to": t.to, "body": t.body["Body"], "status": "queued", "error_code": None}

    async def _twilio_list(self, request: Request) -> Response:
        to = request.query_params.get("To")
        found = [self._resource(i) for i, t in enumerate(self.taken) if t.provider == "twilio" and t.to == to]
        return JSONResponse({"messages": found})

    async def _telegram(self, request: Request) -> Response:
        body = await request.json()
        chat = body["chat_id"]
        self.requests[chat] += 1
        if chat == "403001":
            return JSONResponse({"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked"}, 403)
        if chat == "429001" and self.requests[chat] == 1:
            return JSONResponse({"ok": False, "error_code": 429, "parameters": {"retry_after": 3}}, 429)
        if chat == "500001":
            return JSONResponse({"ok": False}, 500)
        self.taken.append(Taken("telegram", chat, body, dict(request.headers)))
        return JSONResponse({"ok": True, "result": {"message_id": len(self.taken)}})
