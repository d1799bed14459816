"""E-mail by SMTP over kept connections, one message at a time on each.

What had left when something broke decides the outcome: before the body nothing can have been taken;
after it, without the server's answer, nobody knows (RFC 5321 4.5.3.2.6, RFC 1047).

Where the server pipelines (RFC 2920), the envelope of the next message leaves together with the body of
the one before: a message costs one write, one read and one round trip. An envelope alone sends nothing;
one that is not followed by its message ends its connection.
"""

import asyncio
from collections.abc import Callable

from services.delivery.channels.smtp_connection import Broken, Connection, Reply, Server, connect
from services.delivery.channels.smtp_transfer import NAME, PER_CONNECTION, Letter, Transfer, broken, refused
from services.delivery.model import Answer, Lookup, Message, Verdict


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
            done(broken(reply, True))
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
            return broken(e, transfer.body_left)
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
