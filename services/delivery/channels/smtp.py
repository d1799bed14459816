"""E-mail by SMTP over kept connections, one message at a time on each.

What had left when something broke decides the outcome: before the body nothing can have been taken;
after it, without the server's answer, nobody knows (RFC 5321 4.5.3.2.6, RFC 1047).

Where the server pipelines (RFC 2920), the envelope of the next message leaves together with the body of
the one before: a message costs one write, one read and one round trip. An envelope alone sends nothing;
one that is not followed by its message ends its connection.
"""

import asyncio
import re
from collections.abc import Callable

from rondo_common.telemetry import masked
from services.delivery.channels.smtp_connection import Broken, Connection, Late, Reply, Server, connect
from services.delivery.model import Answer, Lookup, Message, Verdict
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


class Smtp:
    """One relay. `host` is the right side of Message-ID and our name in EHLO."""

    name = NAME
    askable = False
    pipelines = True

    def __init__(self, url: str, host: str, default_sender: str, connect_timeout: float, timeout: float):
        self._server = Server.of(url)
        self._host = host
        self._default_sender = default_sender
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._idle: list[Seat] = []
        self._waiting: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, message: Message, touch_id: str) -> Answer:
        seat = self.seat()
        try:
            return await seat.send(message, touch_id)
        finally:
            seat.leave()

    def seat(self) -> "Seat":
        """For sending one message after the other; `leave` it at the end."""
        return self._idle.pop() if self._idle else Seat(self)

    async def look_up(self, task: Lookup) -> Answer:
        return Answer(Verdict.UNKNOWN, NAME, reason="not_askable")

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().end()
        for connection in self._waiting:
            connection.abort()

    # for its seats

    def letter(self, message: Message, touch_id: str) -> Letter:
        return Letter(message, touch_id, self._host, self._default_sender)

    def back(self, seat: "Seat") -> None:
        if self._closed:
            seat.end()
        else:
            self._idle.append(seat)

    async def connection(self) -> Connection:
        """A new one. OSError, Broken or TimeoutError when there is none to be had."""
        async with asyncio.timeout(self._connect_timeout):
            return await connect(self._server, self._host)

    def wait(self, connection: Connection) -> None:
        """Its replies have a time limit from now on, until `waited`."""
        connection.deadline = asyncio.get_running_loop().time() + self._timeout
        self._waiting.add(connection)
        if self._timer is None:
            self._look_later()

    def waited(self, connection: Connection) -> None:
        self._waiting.discard(connection)

    def _look_later(self) -> None:
        # one timer for all connections: a time-out for each message costs more than its two writes
        self._timer = asyncio.get_running_loop().call_later(min(0.25, self._timeout / 4), self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in [c for c in self._waiting if c.deadline is not None and c.deadline <= now]:
            connection.expire()
        if self._waiting:
            self._look_later()


class Seat:
    """A connection of the relay's, made when it is needed, for one message after the other."""

    __slots__ = ("_ahead", "_connection", "_smtp", "_under_way", "after")

    def __init__(self, smtp: Smtp):
        self._smtp = smtp
        self._connection: Connection | None = None
        self._ahead: Letter | None = None
        """Whose envelope has left, and whose body is the next that may."""
        self.after: Letter | None = None
        """Whose envelope may leave with the body that is sent now."""
        self._under_way: tuple[Letter, bool, Callable[[Answer], None]] | None = None
        """Started by `start`: the letter, whether `after`'s envelope went along, who wants the answer."""

    def start(
        self,
        message: Message,
        touch_id: str,
        following: tuple[Message, str] | None,
        done: Callable[[Answer], None],
    ) -> bool:
        """As `send`, for the usual case alone, without a task or a wait: the message's envelope is ahead and
        well received. `done` gets the answer later. False: nothing was done, it is for `send`."""
        letter, c = self._ahead, self._connection
        if letter is None or letter.message is not message or c is None or not c.alive or not c.went_well():
            return False
        smtp = self._smtp
        self._ahead = None
        after = self.after = None if following is None else smtp.letter(*following)
        along = after is not None and c.sent + 1 < PER_CONNECTION
        c.write(letter.body + after.envelope if along and after is not None else letter.body)
        self._under_way = letter, along, done
        smtp.wait(c)
        c.tell(self._told)
        return True

    def _told(self, reply: Reply | Broken) -> None:
        """The reply to the body of what `start` began."""
        under_way, c = self._under_way, self._connection
        self._under_way = None
        if under_way is None or c is None:
            return
        letter, along, done = under_way
        self._smtp.waited(c)
        if isinstance(reply, Broken):
            self._drop()
            done(_broken(reply, True))
            return
        c.sent += 1
        if reply.code == 421 or c.sent >= PER_CONNECTION:
            self.end()
        elif along and self.after is None:
            self._drop()  # withdrawn meanwhile
        elif along:
            self._ahead = self.after
        done(Answer(Verdict.ACCEPTED, NAME, letter.id) if reply.code == 250 else refused(reply, "hard_bounce"))

    async def send(self, message: Message, touch_id: str, following: tuple[Message, str] | None = None) -> Answer:
        """Send one message. `following` is the one to be sent here after it: its envelope may leave already.
        Never raises for what the network or the server may do."""
        smtp, ahead, kept = self._smtp, self._ahead, self._connection
        self._ahead = None
        if ahead is not None and ahead.message is not message:
            self._drop()
            ahead = kept = None
        letter = ahead or smtp.letter(message, touch_id)
        self.after = None if following is None else smtp.letter(*following)
        if kept is not None and kept.alive:
            # it may have been closed meanwhile: what breaks before the body goes once more over a new one
            answer = await self._over(kept, letter, ahead is not None)
            if answer.verdict != Verdict.NOT_SENT:
                return answer
        try:
            self._connection = fresh = await smtp.connection()
        except (OSError, Broken, TimeoutError) as e:
            detail = str(e) if isinstance(e, Broken) else type(e).__name__
            return Answer(Verdict.NOT_SENT, NAME, reason="connection_failed", detail=detail)
        return await self._over(fresh, letter, False)

    def withdraw(self) -> None:
        """What was to follow is not sent here."""
        self.after = None
        if self._ahead is not None:
            self._ahead = None
            self._drop()

    def leave(self) -> None:
        self.withdraw()
        self._smtp.back(self)

    def end(self) -> None:
        if self._connection is not None:
            self._connection.quit()
            self._connection = None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _over(self, connection: Connection, letter: Letter, ahead: bool) -> Answer:
        transfer = Transfer(connection, letter, ahead, self)
        self._smtp.wait(connection)
        try:
            answer = await transfer.run()
        except Broken as e:
            self._drop()
            return _broken(e, transfer.body_left)
        except BaseException:
            self._drop()
            raise
        finally:
            self._smtp.waited(connection)
        connection.sent += 1
        if transfer.closing or connection.sent >= PER_CONNECTION:
            self.end()
        elif transfer.went_ahead and self.after is None:
            self._drop()  # withdrawn meanwhile
        elif transfer.went_ahead:
            self._ahead = self.after
        return answer


class Transfer:
    """One mail transaction; `ahead`: its envelope has left already. The envelope of `seat.after` leaves with
    its body. `body_left`: bytes of the message may have left; `went_ahead`: the next envelope has;
    `closing`: the server ends the connection after this (421)."""

    __slots__ = ("_ahead", "_connection", "_letter", "_seat", "body_left", "closing", "went_ahead")

    def __init__(self, connection: Connection, letter: Letter, ahead: bool, seat: Seat):
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


def _broken(why: Broken, body_left: bool) -> Answer:
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
