"""E-mail by SMTP over kept connections, one message at a time on each.

What had left when something broke decides the outcome: before the body nothing can have been taken;
after it, without the server's answer, nobody knows (RFC 5321 4.5.3.2.6, RFC 1047).
"""

import asyncio
import re

from rondo_common.telemetry import masked
from services.delivery.channels.smtp_connection import Broken, Connection, Reply, Server, connect
from services.delivery.model import Answer, Lookup, Message, Verdict
from services.delivery.render import mime

NAME = "smtp"
_ENHANCED = re.compile(r"^([245])\.(\d{1,3})\.(\d{1,3})\b")
PER_CONNECTION = 1000
"""Messages after which a connection is replaced: relays like that, and load is spread anew."""


class Smtp:
    """One relay. `host` is the right side of Message-ID and our name in EHLO."""

    name = NAME
    askable = False

    def __init__(self, url: str, host: str, default_sender: str, connect_timeout: float, timeout: float):
        self._server = Server.of(url)
        self._host = host
        self._default_sender = default_sender
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._idle: list[Connection] = []
        self._closed = False

    async def send(self, message: Message, touch_id: str) -> Answer:
        sender, to, data = mime.build(message, touch_id, self._host, self._default_sender)
        answer = await self._carry(sender, to, data)
        if answer.verdict == Verdict.ACCEPTED:
            return Answer(Verdict.ACCEPTED, NAME, mime.message_id(touch_id, self._host))
        return answer

    async def look_up(self, task: Lookup) -> Answer:
        return Answer(Verdict.UNKNOWN, NAME, reason="not_askable")

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().quit()

    async def _carry(self, sender: str, to: str, data: bytes) -> Answer:
        """Over a kept connection if there is one. A kept one may have been closed meanwhile: what breaks
        before the body goes once more over a new one."""
        while self._idle:
            kept = self._idle.pop()
            if not kept.alive:
                continue
            answer = await self._over(kept, sender, to, data)
            if answer.verdict != Verdict.NOT_SENT:
                return answer
            break
        try:
            async with asyncio.timeout(self._connect_timeout):
                fresh = await connect(self._server, self._host)
        except (OSError, Broken, TimeoutError) as e:
            detail = str(e) if isinstance(e, Broken) else type(e).__name__
            return Answer(Verdict.NOT_SENT, NAME, reason="connection_failed", detail=detail)
        return await self._over(fresh, sender, to, data)

    async def _over(self, connection: Connection, sender: str, to: str, data: bytes) -> Answer:
        transfer = Transfer(connection, sender, to, data)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await transfer.run()
        except (Broken, TimeoutError) as e:
            connection.abort()
            late = isinstance(e, TimeoutError)
            if not transfer.body_left:
                return Answer(Verdict.NOT_SENT, NAME, reason="timeout" if late else "connection_lost")
            return Answer(Verdict.UNKNOWN, NAME, reason="timeout" if late else "connection_lost")
        except BaseException:
            connection.abort()
            raise
        connection.sent += 1
        if self._closed or transfer.closing or connection.sent >= PER_CONNECTION:
            connection.quit()
        elif connection.alive:
            self._idle.append(connection)
        return answer


class Transfer:
    """One mail transaction. `body_left`: bytes of the message may have left; `closing`: the server ends
    the connection after this (421)."""

    def __init__(self, connection: Connection, sender: str, to: str, data: bytes):
        self._connection = connection
        self._mail = f"MAIL FROM:<{sender}>"
        self._rcpt = f"RCPT TO:<{to}>"
        self._data = data
        self.body_left = False
        self.closing = False

    async def run(self) -> Answer:
        mail, rcpt, data = await self._envelope()
        refused = None
        if mail.code != 250:
            refused = self._refused(mail, "sender_refused")
        elif rcpt is None or rcpt.code not in (250, 251):
            refused = self._refused(rcpt or mail, "hard_bounce")
        elif data is None or data.code != 354:
            refused = self._refused(data or rcpt, "hard_bounce")
        if refused is not None:
            await self._undo(data)
            return refused
        self.body_left = True
        self._connection.write(stuffed(self._data))
        end = await self._connection.reply()
        return Answer(Verdict.ACCEPTED, NAME) if end.code == 250 else self._refused(end, "hard_bounce")

    async def _envelope(self) -> tuple[Reply, Reply | None, Reply | None]:
        """Replies to MAIL, RCPT and DATA; None for those not asked any more."""
        c = self._connection
        if c.pipelining:
            c.write(f"{self._mail}\r\n{self._rcpt}\r\nDATA\r\n".encode("ascii"))
            mail = await c.reply()
            if mail.code == 421:
                return mail, None, None
            return mail, await c.reply(), await c.reply()
        mail = await c.command(self._mail)
        rcpt = await c.command(self._rcpt) if mail.code == 250 else None
        data = await c.command("DATA") if rcpt is not None and rcpt.code in (250, 251) else None
        return mail, rcpt, data

    async def _undo(self, data: Reply | None) -> None:
        """Leave the connection as it was found. A server may say 354 although it took no recipient (RFC
        2920, 3.1): then the empty message is ended."""
        if self.closing:
            return
        if data is not None and data.code == 354:
            self._connection.write(b".\r\n")
            await self._connection.reply()
        reply = await self._connection.command("RSET")
        self.closing = reply.code == 421

    def _refused(self, reply: Reply, code: str) -> Answer:
        detail = masked(f"{reply.code} {reply.text}"[:200])
        if reply.code == 421:
            self.closing = True
            return Answer(Verdict.RETRY, NAME, reason="provider_busy", detail=detail)
        if 400 <= reply.code < 500:
            return Answer(Verdict.RETRY, NAME, reason="soft_bounce", detail=detail)
        return Answer(
            Verdict.REJECTED, NAME, reason=code, detail=detail, permanent=code == "hard_bounce" and is_permanent(reply)
        )


def is_permanent(reply: Reply) -> bool:
    """Whether the refusal speaks of the address (RFC 3463: 5.1.x), so that it will be the same next time.
    Without an enhanced code, 550, 551 and 553 do; a policy's refusal (5.7.x) does not."""
    enhanced = _ENHANCED.match(reply.text)
    if enhanced:
        return enhanced[1] == "5" and enhanced[2] == "1"
    return reply.code in (550, 551, 553)


def stuffed(data: bytes) -> bytes:
    """`data` with its dots doubled (RFC 5321 4.5.2), ended by the final dot."""
    if data.startswith(b"."):
        data = b"." + data
    data = data.replace(b"\r\n.", b"\r\n..")
    return data + (b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n")
