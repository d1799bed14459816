"""The relay: SMTP with the fates of faults.py."""

import asyncio
import re

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.stress.provider import faults
from tests.stress.provider.ledger import Ledger

STALL_S = 60.0
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^@>\s]+)@", re.MULTILINE | re.IGNORECASE)


class Handler:
    """aiosmtpd's handler."""

    def __init__(self, ledger: Ledger, late_s: float):
        self._ledger, self._late_s = ledger, late_s

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        found = _MESSAGE_ID.search(envelope.content[:8192])
        assert found, "a mail without a Message-ID"
        # a colon can't stand there: the touch of one channel has a dot for it
        fate, plan = self._ledger.meet("email", found[1].decode().replace(".", ":"))
        if plan.slow:
            await asyncio.sleep(plan.slow)
        match fate:
            case faults.BUSY:
                return "451 4.7.1 Too many messages, try again later"
            case faults.ERROR:
                return "451 4.3.0 Local error"
            case faults.LATE:
                await asyncio.sleep(self._late_s)
            case faults.SILENT:
                await asyncio.sleep(STALL_S)
        if fate in (faults.ERROR_TAKEN, faults.RESET, faults.RESET_TAKEN, faults.SILENT) and server.transport:
            server.transport.abort()
        return "250 2.0.0 OK"


async def serve(ledger: Ledger, late_s: float) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    handler = Handler(ledger, late_s)

    def protocol() -> SMTP:
        return SMTP(handler, hostname="relay.test", enable_SMTPUTF8=True, data_size_limit=25_000_000, loop=loop)

    return await loop.create_server(protocol, "127.0.0.1", 0, backlog=512)
