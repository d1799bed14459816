"""Twilio's Messages and Telegram's sendMessage on one port, and PUT /plan/<channel> to change behaviour.

By hand on streams: a reset has to reach the socket.
"""

import asyncio
import json
import time
from collections import defaultdict
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.stress.provider import faults
from tests.stress.provider.faults import Plan
from tests.stress.provider.ledger import Ledger

STALL_S = 60.0
WORDS = {200: "OK", 201: "Created", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


class Http:
    """All connections of the provider's HTTP."""

    def __init__(self, ledger: Ledger, late_s: float):
        self._ledger, self._late_s = ledger, late_s
        self._texts: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by number, newest last

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, target, _ = lines[0].split(" ", 2)
                if not await self._request(method, target, headers, body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(
        self, method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one; False when the connection is over."""
        path = urlsplit(target)
        if method == "PUT" and path.path.startswith("/plan/"):
            self._ledger.plans[path.path.removeprefix("/plan/")] = Plan.of(json.loads(body))
            return await self._answer(writer, 200, {})
        if path.path.endswith("/Messages.json"):
            if method == "GET":
                number = parse_qs(path.query).get("To", [""])[0]
                return await self._answer(writer, 200, {"messages": self._texts[number][::-1][:50]})
            form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
            args = parse_qs(urlsplit(form["StatusCallback"]).query)
            made = {
                "sid": f"SM{sum(map(len, self._texts.values())):032x}",
                "to": form["To"],
                "body": form["Body"],
                "status": "queued",
                "error_code": None,
                "date_created": formatdate(time.time(), usegmt=True),
            }
            return await self._meet(writer, "sms", args["t"][0], 201, made)
        if path.path.endswith("/sendMessage"):
            pairs = (item.partition("=") for item in headers.get("baggage", "").split(","))
            bag = {k.strip(): unquote(v) for k, _, v in pairs}
            made = {"ok": True, "result": {"message_id": 1, "date": int(time.time())}}
            return await self._meet(writer, "messaging", bag["t"], 200, made)
        return await self._answer(writer, 404, {})

    async def _meet(
        self, writer: asyncio.StreamWriter, channel: str, touch: str, good: int, made: dict[str, Any]
    ) -> bool:
        fate, plan = self._ledger.meet(channel, touch)
        if fate in faults.TAKEN and channel == "sms":
            self._texts[made["to"]].append(made)
        if plan.slow:
            await asyncio.sleep(plan.slow)
        match fate:
            case faults.BUSY:
                wait = plan.retry_after
                about = {"code": 20429, "ok": False, "error_code": 429, "parameters": {"retry_after": wait}}
                return await self._answer(writer, 429, about, f"Retry-After: {wait}\r\n")
            case faults.ERROR | faults.ERROR_TAKEN:
                return await self._answer(writer, 500, {"code": 20500, "ok": False})
            case faults.RESET | faults.RESET_TAKEN:
                # the beginning of an answer, then nothing: a reset in mid-body
                writer.write(f"HTTP/1.1 {good} OK\r\nContent-Length: 500\r\n\r\n{{".encode())
                writer.transport.abort()
                return False
            case faults.LATE:
                await asyncio.sleep(self._late_s)
            case faults.SILENT:
                await asyncio.sleep(STALL_S)
                return False
        return await self._answer(writer, good, made)

    @staticmethod
    async def _answer(writer: asyncio.StreamWriter, status: int, body: dict[str, Any], more: str = "") -> bool:
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} {WORDS[status]}\r\nContent-Type: application/json\r\n{more}"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        return True
