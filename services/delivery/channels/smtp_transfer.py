"""One mail over one SMTP connection: the letter, its transfer, and what the server's replies mean."""

import re
from typing import Protocol

from rondo_common.telemetry import masked
from services.delivery.channels.smtp_connection import Broken, Connection, Late, Reply
from services.delivery.model import Answer, Message, Verdict
from services.delivery.render import mime

NAME = "smtp"
_ENHANCED = re.compile(r"^([245])\.(\d{1,3})\.(\d{1,3})\b")
PER_CONNECTION = 1000
"""Messages after which a connection is replaced: relays like that, and load is spread anew."""


class Letter:
    """A message ready to leave: its envelope, and its body with dots doubled and the final one."""

    __slots__ = ("body", "id", "message", "rcpt", "sender")

    def __init__(self, message: Message, touch_id: str, host: str, default_sender: str):
        self.sender, self.rcpt, data = mime.build(message, touch_id, host, default_sender)
        self.message = message
        self.id = mime.message_id(touch_id, host)
        self.body = stuffed(data)

    @property
    def envelope(self) -> bytes:
        return f"MAIL FROM:<{self.sender}>\r\nRCPT TO:<{self.rcpt}>\r\nDATA\r\n".encode("ascii")


class Following(Protocol):
    """Whoever makes transfers, one after the other."""

    after: Letter | None


class Transfer:
    """One mail transaction; `ahead`: its envelope has left already. The envelope of `seat.after` leaves with
    its body. `body_left`: bytes of the message may have left; `went_ahead`: the next envelope has;
    `closing`: the server ends the connection after this (421)."""

    __slots__ = ("_ahead", "_connection", "_letter", "_seat", "body_left", "closing", "went_ahead")

    def __init__(self, connection: Connection, letter: Letter, ahead: bool, seat: Following):
        self._connection = connection
        self._letter = letter
        self._ahead = ahead
        self._seat = seat
        self.body_left = False
        self.went_ahead = False
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
        c, after = self._connection, self._seat.after
        if after is not None and c.pipelining and c.sent + 1 < PER_CONNECTION:
            c.write(self._letter.body + after.envelope)
            self.went_ahead = True
        else:
            c.write(self._letter.body)
        self.body_left = True
        end = await c.reply()
        if end.code == 250:
            return Answer(Verdict.ACCEPTED, NAME, self._letter.id)
        return self._refused(end, "hard_bounce")

    async def _envelope(self) -> tuple[Reply, Reply | None, Reply | None]:
        """Replies to MAIL, RCPT and DATA; None for those not asked any more."""
        c, letter = self._connection, self._letter
        if self._ahead or c.pipelining:
            if not self._ahead:
                c.write(letter.envelope)
            mail, *rest = await c.replies(3)
            return mail, rest[0] if rest else None, rest[1] if len(rest) > 1 else None
        mail = await c.command(f"MAIL FROM:<{letter.sender}>")
        rcpt = await c.command(f"RCPT TO:<{letter.rcpt}>") if mail.code == 250 else None
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
        self.closing = self.closing or reply.code == 421
        return refused(reply, code)


def broken(why: Broken, body_left: bool) -> Answer:
    """The answer when no reply came."""
    reason = "timeout" if isinstance(why, Late) else "connection_lost"
    return Answer(Verdict.UNKNOWN if body_left else Verdict.NOT_SENT, NAME, reason=reason)


def refused(reply: Reply, code: str) -> Answer:
    """What a reply means that takes no message; `code` is the reason when it is for good."""
    detail = masked(f"{reply.code} {reply.text}"[:200])
    if reply.code == 421:
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
