"""One kept SMTP connection (RFC 5321), with command pipelining (RFC 2920) where the server offers it.

asyncio.Protocol instead of a library: a reply costs one callback, and the caller learns exactly what
had left when something broke.
"""

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LONGEST_REPLY = 64 * 1024


class Reply(NamedTuple):
    """A server's reply: code and the text of its last line."""

    code: int
    text: str


@lru_cache(maxsize=256)
def _reply(line: bytes) -> Reply | None:
    """The last line of a reply; None when it is none. Most mails get the same few."""
    if not line[:3].isdigit():
        return None
    return Reply(int(line[:3]), line[4:].strip().decode("latin-1"))


class Broken(Exception):
    """The connection ended, or said something that is no SMTP."""


class Late(Broken):
    """A reply did not come in time."""


class Server(NamedTuple):
    """Where to send, from smtp://[user:password@]host:port (plain), smtp+tls:// (STARTTLS, required) or
    smtps:// (TLS from the start)."""

    host: str
    port: int
    scheme: str
    user: str
    password: str

    @classmethod
    def of(cls, url: str) -> "Server":
        """ValueError for another scheme, or a password that would travel in the clear."""
        u = urlsplit(url)
        ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
        if u.scheme not in ports or not u.hostname:
            raise ValueError("an SMTP URL is smtp://, smtp+tls:// or smtps:// and a host")
        local = u.hostname in ("127.0.0.1", "::1", "localhost")
        if u.username and u.scheme == "smtp" and not local:
            raise ValueError("a password needs smtp+tls:// or smtps://")
        user, password = unquote(u.username or ""), unquote(u.password or "")
        return cls(u.hostname, u.port or ports[u.scheme], u.scheme, user, password)


class Connection(asyncio.Protocol):
    """Made by `connect`. Commands go out by `write`, replies come in order by `replies`."""

    def __init__(self) -> None:
        self.extensions: frozenset[str] = frozenset()
        self.mechanisms: frozenset[str] = frozenset()
        """Ways of AUTH the server offers."""
        self.pipelining = False
        self.sent = 0
        """Messages this connection has carried."""
        self.deadline: float | None = None
        """When (event loop's time) whoever waits for replies gives up; `expire` is to be called then."""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._lines: list[str] = []
        self._replies: deque[Reply] = deque()
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._told: Callable[[Reply | Broken], None] | None = None
        self._broken: Broken | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        lines = (self._buffer + data if self._buffer else data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            reply = _reply(line)
            if line[3:4] == b"-":
                if not self.extensions:
                    self._lines.append(line[4:].strip().decode("latin-1"))
            elif reply is None:
                self._break(Broken("not an SMTP reply"))
                return
            else:
                self._replies.append(reply)
        if len(self._buffer) > LONGEST_REPLY:
            self._break(Broken("an endless reply"))
        elif self._told is not None:
            if self._replies:
                told, self._told = self._told, None
                told(self._replies.popleft())
        elif self._waiter is not None and self._enough():
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken = self._broken or Broken(type(exc).__name__ if exc else "closed by the server")
        self._wake()

    def _break(self, why: Broken) -> None:
        self._broken = why
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._told is not None and self._broken is not None:
            told, self._told = self._told, None
            told(self._broken)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # our side

    @property
    def alive(self) -> bool:
        return self._broken is None and self._transport is not None and not self._transport.is_closing()

    def expire(self) -> None:
        """The deadline has passed."""
        self._break(Late("timeout"))

    def write(self, data: bytes) -> None:
        """Send bytes. Broken when the connection is known to be gone: then nothing was sent."""
        if not self.alive or self._transport is None:
            raise self._broken or Broken("closed")
        self._transport.write(data)

    def went_well(self) -> bool:
        """Whether the replies to an envelope that left ahead are here, and the body may follow. They are done
        with then; else they stay to be read."""
        found = self._replies
        if len(found) != 3 or found[0].code != 250 or found[1].code not in (250, 251) or found[2].code != 354:
            return False
        found.clear()
        return True

    def tell(self, told: Callable[[Reply | Broken], None]) -> None:
        """Call `told` with the next reply, or with why none can come any more; instead of waiting for it."""
        self._told = told

    async def replies(self, count: int) -> list[Reply]:
        """The next `count` replies; fewer when a 421 is among them, the last then. Broken when they can't
        come any more."""
        self._wanted = count
        while not self._enough():
            if self._broken is not None:
                raise self._broken
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        found = [self._replies.popleft()]
        while len(found) < count and found[-1].code != 421:
            found.append(self._replies.popleft())
        return found

    def _enough(self) -> bool:
        return len(self._replies) >= self._wanted or any(r.code == 421 for r in self._replies)

    async def reply(self) -> Reply:
        """The next reply. Broken when none can come any more."""
        return (await self.replies(1))[0]

    async def command(self, line: str) -> Reply:
        self.write(line.encode("ascii") + b"\r\n")
        return await self.reply()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def quit(self) -> None:
        """End it politely, without waiting."""
        if self.alive and self._transport is not None:
            self._transport.write(b"QUIT\r\n")
            self._transport.close()

    async def greet(self, name: str) -> None:
        """EHLO, and what the server can do."""
        self._lines, self.extensions = [], frozenset()
        reply = await self.command(f"EHLO {name}")
        if reply.code != 250:
            reply = await self.command(f"HELO {name}")
            if reply.code != 250:
                raise Broken(f"EHLO was refused: {reply.code}")
            return
        # the first line is the server's name
        words = [*self._lines, reply.text][1:]
        self.extensions = frozenset(["EHLO", *(w.split(" ")[0].upper() for w in words if w)])
        self.mechanisms = frozenset(m for w in words if w[:4].upper() == "AUTH" for m in w[5:].upper().split())
        self.pipelining = "PIPELINING" in self.extensions

    async def secure(self, server: Server) -> None:
        """STARTTLS."""
        if "STARTTLS" not in self.extensions:
            raise Broken("the server offers no STARTTLS")
        reply = await self.command("STARTTLS")
        if reply.code != 220 or self._transport is None or self._buffer:
            raise Broken(f"STARTTLS was refused: {reply.code}")
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context()
        made = await loop.start_tls(self._transport, self, context, server_hostname=server.host)
        if made is None:
            raise Broken("STARTTLS failed")
        self._transport = made  # type: ignore[assignment]

    async def log_in(self, server: Server) -> None:
        """AUTH PLAIN (RFC 4616) where the server offers it, else LOGIN, which some know alone."""
        if "PLAIN" in self.mechanisms:
            reply = await self.command(f"AUTH PLAIN {_base64(f'{chr(0)}{server.user}{chr(0)}{server.password}')}")
        elif "LOGIN" in self.mechanisms:
            reply = await self.command("AUTH LOGIN")
            for secret in (server.user, server.password):
                if reply.code == 334:
                    reply = await self.command(_base64(secret))
        else:
            raise Broken("the server offers neither AUTH PLAIN nor LOGIN")
        if reply.code != 235:
            raise Broken(f"AUTH was refused: {reply.code}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def connect(server: Server, name: str) -> Connection:
    """A connection that is ready for MAIL. OSError or Broken when there is none to be had."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if server.scheme == "smtps" else None
    _, made = await loop.create_connection(Connection, server.host, server.port, ssl=context)
    try:
        hello = await made.reply()
        if hello.code != 220:
            raise Broken(f"the server is not ready: {hello.code}")
        await made.greet(name)
        if server.scheme == "smtp+tls":
            await made.secure(server)
            await made.greet(name)
        if server.user:
            await made.log_in(server)
    except BaseException:
        made.abort()
        raise
    return made
