"""What follows a captured message: by a magic address, or because somebody asked through the inbox."""

import asyncio

from rondo_common.problems import Problem
from services.capture.callbacks import BROWSER, SCANNER, Callbacks
from services.capture.model import Message

ACT_DELAY_S = 0.2
"""A reader is never as fast as the provider's own answer."""


class Acts:
    """Performs acts on messages."""

    def __init__(self, callbacks: Callbacks):
        self._callbacks = callbacks

    def taken(self, m: Message, act: str | None, text: str) -> None:
        """The message was taken: say so, then do what its magic address asks."""
        if m.channel == "email":
            self._callbacks.mail_event(m, "delivered", response="250 OK")
        elif m.channel == "sms":
            self._callbacks.soon(self._callbacks.sms_status(m, "delivered"))
        if act:
            self._callbacks.soon(self._later(m, act, text))

    def event(self, m: Message, event: str, **more: str) -> None:
        """Report an event of a mail, such as the bounce of an address."""
        self._callbacks.mail_event(m, event, **more)

    async def _later(self, m: Message, act: str, text: str) -> None:
        await asyncio.sleep(ACT_DELAY_S)
        name = {"stop": "reply", "complaint": "complain", "scanner": "scan"}.get(act, act)
        await self.do(m, name, text=text)

    async def do(self, m: Message, act: str, text: str = "", link: int = 0) -> int:
        """Perform reply, open, click, scan, bounce, complain or unsubscribe. Returns the status the
        public side answered (202 where it comes later). Problem 409 when this message can't."""
        match act:
            case "reply":
                reply = {"email": self._callbacks.mail_reply, "sms": self._callbacks.sms_reply}.get(
                    m.channel, self._callbacks.chat_reply
                )
                await reply(m, text or "Thanks!")
                return 202
            case "open" if m.pixel:
                return await self._callbacks.follow(m.pixel, BROWSER)
            case "click" if 0 <= link < len(m.links):
                return await self._callbacks.follow(m.links[link], BROWSER)
            case "scan" if m.links or m.pixel:
                urls = [*([m.pixel] if m.pixel else []), *m.links]
                await asyncio.gather(*(self._callbacks.follow(u, SCANNER) for u in urls))
                return 202
            case "bounce" if m.channel == "email":
                self._callbacks.mail_event(m, "bounce", type="bounce", reason="550 5.1.1 no such user", status="5.1.1")
                return 202
            case "bounce" if m.channel == "sms":
                await self._callbacks.sms_status(m, "undelivered", 30003)
                return 202
            case "complain" if m.channel == "email":
                self._callbacks.mail_event(m, "spamreport")
                return 202
            case "unsubscribe" if m.unsubscribe:
                return await self._callbacks.one_click(m.unsubscribe)
        raise Problem(
            409, "not-possible", "This message can't do that", f"A {m.channel} message without what {act!r} needs"
        )
