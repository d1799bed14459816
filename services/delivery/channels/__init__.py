"""The providers: each turns a message into its own wire form and its answers into an Answer.

Three kinds of failure, told apart with care: surely not taken (NOT_SENT: no connection was had;
RETRY: the provider said "later"), refused (REJECTED), and not known (UNKNOWN: bytes of the message
may have left and no answer came, or the answer was the provider's own failure).
"""

from typing import Protocol

from services.delivery.model import Answer, Lookup, Message


class Provider(Protocol):
    """One provider account. Used from one event loop."""

    name: str
    askable: bool
    """Whether `look_up` can tell if a message was taken."""

    async def send(self, message: Message, touch_id: str) -> Answer:
        """Send one message. Never raises for what a provider or the network may do."""
        ...

    async def look_up(self, task: Lookup) -> Answer:
        """ACCEPTED or REJECTED when the provider has the message, NOT_SENT when it surely has not,
        UNKNOWN when it can't be asked now."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
