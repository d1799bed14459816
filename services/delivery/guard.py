"""What must hold right before a call (STREAMS 24, 27, 28). Asked before its mark is set and again after."""

from typing import Any

from services.delivery.calls import Open
from services.delivery.gate import MARKETING
from services.delivery.marks import About, stop_key
from services.delivery.model import Answer, Verdict
from services.delivery.stops import Stops


class Guard:
    """The checks of one channel. `max_age`: how old (s) the proof of ownership may be."""

    def __init__(self, channel: str, provider: str, stops: Stops, max_age: float):
        self._channel, self._provider, self._stops, self._max_age = channel, provider, stops, max_age

    def hindered(self, made: Open) -> Answer | None:
        """Why the call may not begin now."""
        if made.revoked:
            return self.mine(Verdict.NOT_SENT, "taken_back")
        if self._stops.any and self._stops.hold(made.claim.partition, made.call):
            return self.mine(Verdict.NOT_SENT, "stopped")
        if not made.claim.valid(self._max_age):
            return self.mine(Verdict.NOT_SENT, "ownership_too_old")
        return None

    def about(self, made: Open) -> About:
        """What its mark says, and where its member's STOP would be."""
        call = made.call
        stop = stop_key(call.workspace, self._channel, call.address_id) if call.class_ == MARKETING else None
        return About(made.claim.partition, call.gen, call.id, stop)

    def mine(self, verdict: Verdict, reason: str, **more: Any) -> Answer:
        """An answer that is ours, not the provider's."""
        return Answer(verdict, self._provider, reason=reason, **more)
