"""What the courier knows of a call under way, and of whoever makes it."""

import asyncio

from rondo_common.outcomes import Perform
from rondo_common.streams.effector import Claim
from services.delivery.channels import Seat
from services.delivery.line import Place
from services.delivery.model import Call


class Open:
    """A call in this process, from the line to its answer. `over` is resolved then, if somebody waits."""

    __slots__ = ("call", "claim", "over", "perform", "revoked")

    def __init__(self, claim: Claim, perform: Perform):
        self.claim = claim
        self.perform = perform
        self.call: Call = perform.task
        self.over: asyncio.Future[None] | None = None
        self.revoked = False


class Teller:
    """Makes calls on one place. `following` is taken from the line already, its envelope may be ahead."""

    __slots__ = ("following", "place", "seat")

    def __init__(self, place: Place, seat: Seat):
        self.place = place
        self.seat = seat
        self.following: Open | None = None
