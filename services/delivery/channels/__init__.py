"""The providers: each turns a message into its own wire form and its answers into an Answer.

Three kinds of failure, told apart with care: surely not taken (NOT_SENT: no connection was had;
RETRY: the provider said "later"), refused (REJECTED), and not known (UNKNOWN: bytes of the message
may have left and no answer came, or the answer was the provider's own failure).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from services.delivery.model import Answer, Lookup, Message


class Provider(Protocol):
    """One provider account. Used from one event loop."""

    name: str
    askable: bool
    """Whether `look_up` can tell if a message was taken."""
    pipelines: bool
    """Whether knowing the next message helps to send one."""

    def seat(self) -> "Seat":
        """Where one call after the other is made."""
        ...

    async def look_up(self, task: Lookup) -> Answer:
        """ACCEPTED or REJECTED when the provider has the message, NOT_SENT when it surely has not,
        UNKNOWN when it can't be asked now."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Seat(Protocol):
    """Where one call after the other is made. `leave` it at the end."""

    async def send(self, message: Message, touch_id: str, following: tuple[Message, str] | None = None) -> Answer:
        """Send one message. Never raises for what a provider or the network may do. `following` is the message
        (and its touch) that is sent here next, unless it is withdrawn."""
        ...

    def start(
        self,
        message: Message,
        touch_id: str,
        following: tuple[Message, str] | None,
        done: Callable[[Answer], None],
    ) -> bool:
        """Begin to send one message if that needs no waiting; `done` gets the answer. False: it is for `send`,
        nothing was done."""
        ...

    def withdraw(self) -> None:
        """What was to follow is not sent here."""
        ...

    def leave(self) -> None: ...


class Single:
    """A seat of a provider to which every call is one of its own."""

    __slots__ = ("_send",)

    def __init__(self, send: Callable[[Message, str], Awaitable[Answer]]):
        self._send = send

    async def send(self, message: Message, touch_id: str, following: tuple[Message, str] | None = None) -> Answer:
        return await self._send(message, touch_id)

    def start(
        self,
        message: Message,
        touch_id: str,
        following: tuple[Message, str] | None,
        done: Callable[[Answer], None],
    ) -> bool:
        return False

    def withdraw(self) -> None:
        pass

    def leave(self) -> None:
        pass
