"""The mail server. Magic addresses refuse, stall or cut as WIRE 9 lists.

For SMTP: 429 is 451 once, 500 is 451 twice, 500accepted takes the mail and cuts the line before the
answer, timeout takes it and never answers, reset cuts after the body without taking it.
"""

import asyncio
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from rondo_common.clock import Clock, iso
from services.capture.acts import Acts
from services.capture.magic import Counter, of_email
from services.capture.mime import read_mail
from services.capture.store import Inbox

STALL_S = 120.0
SLOW_S = 10.0


class Handler:
    """aiosmtpd's handler: one mail at a time of one connection."""

    def __init__(self, inbox: Inbox, acts: Acts, clock: Clock):
        self._inbox, self._acts, self._clock = inbox, acts, clock
        self._counter = Counter()

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        # aiosmtpd reads line by line from its buffer, so commands sent together are served in order (RFC 2920)
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if of_email(address).verdict == "hardbounce":
            return "550 5.1.1 The address does not exist"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        to = envelope.rcpt_tos[0]
        plan = of_email(to)
        now = self._clock.now()
        message = read_mail(raw, envelope.mail_from or "", to, self._inbox.next_id(), iso(now), now)
        match self._counter.verdict(plan, message.args.get("t") or to):
            case "softbounce":
                return "451 4.2.2 The mailbox is full"
            case "429":
                return "451 4.7.1 Too many messages, try again in 2 seconds"
            case "500":
                return "451 4.3.0 Local error"
            case "reset":
                self._cut(server)
                return "421 4.3.0"
            case "500accepted":
                self._inbox.add(message)
                self._acts.taken(message, None, "")
                self._cut(server)
                return "421 4.3.0"
            case "timeout":
                self._inbox.add(message)
                self._acts.taken(message, None, "")
                await asyncio.sleep(STALL_S)
                self._cut(server)
                return "421 4.4.2"
            case "slow":
                await asyncio.sleep(SLOW_S)
        self._inbox.add(message)
        self._acts.taken(message, plan.act, plan.text)
        return f"250 2.0.0 OK {message.id}"

    @staticmethod
    def _cut(server: SMTP) -> None:
        if server.transport is not None:
            server.transport.abort()


async def serve(handler: Handler, host: str, port: int) -> asyncio.Server:
    """Listen. 25 MB a mail; 8BITMIME is offered by the server itself."""
    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return SMTP(handler, hostname="capture.local", enable_SMTPUTF8=True, data_size_limit=25_000_000, loop=loop)

    return await loop.create_server(protocol, host, port, backlog=512)
