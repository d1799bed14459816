"""What the courier knows of a call under way, and of whoever makes it."""

import asyncio
from collections.abc import Callable

from rondo_common.outcomes import Perform
from rondo_common.streams.effector import Claim
from services.delivery.channels import Seat
from services.delivery.line import Place
from services.delivery.model import Answer, Call


class Open:
    """A call in this process, from the line to its answer. `over` is resolved then, if somebody waits."""

    __slots__ = ("call", "claim", "marked", "over", "perform", "revoked")

    def __init__(self, claim: Claim, perform: Perform):
        self.claim = claim
        self.perform = perform
        self.call: Call = perform.task
        self.over: asyncio.Future[None] | None = None
        self.revoked = False
        self.marked = False
        """It is marked as about to begin."""


class Teller:
    """Makes calls on one place, one after the other: `made` is the present one. `following` is taken from the
    line already, its envelope may be ahead. `done` is called with the answer of a call that the seat started."""

    __slots__ = ("began", "done", "following", "made", "place", "seat", "traced")

    def __init__(self, place: Place, seat: Seat, made: Open):
        self.place = place
        self.seat = seat
        self.made = made
        self.following: Open | None = None
        self.began = 0.0
        self.traced = 0
        """When the call's span began (ns), 0 without one."""
        self.done: Callable[[Answer], None] = _nobody

    def leave(self) -> None:
        """Give up the place. What points back here goes, so that the last message does not wait for the
        garbage collector."""
        self.done = _nobody
        self.place.on_slow = _nothing
        self.place.leave()
        self.seat.leave()


def _nobody(answer: Answer) -> None:
    pass


def _nothing() -> None:
    pass
