"""Magic addresses: what an address makes the provider do. Pure (WIRE 9).

A plan has a verdict for the call itself and acts that follow once the message was taken.
"""

from dataclasses import dataclass

VERDICTS = frozenset({"hardbounce", "softbounce", "429", "500", "500accepted", "timeout", "reset", "slow"})
ACTS = frozenset({"complaint", "reply", "stop", "unsubscribe", "open", "click", "scanner"})

TWILIO_ERRORS = {
    "+15005550001": (21211, "Invalid 'To' Phone Number"),
    "+15005550002": (21612, "Cannot route to this number"),
    "+15005550003": (21408, "Permission to send to this region is not enabled"),
    "+15005550004": (21610, "Attempt to send to unsubscribed recipient"),
    "+15005550009": (21614, "'To' number is not a valid mobile number"),
}
"""Twilio's own test numbers and the error each gives."""


@dataclass(frozen=True)
class Plan:
    """`verdict` None takes the message at once; `act` follows it; `text` is what a reply says;
    `times` is how often the verdict holds before the message is taken (0: always)."""

    verdict: str | None = None
    act: str | None = None
    text: str = ""
    times: int = 0


_TIMES = {"429": 1, "500": 2}


def of_email(address: str) -> Plan:
    """The plan of the last +tag of the local part, in any domain."""
    local = address.rpartition("@")[0]
    tag = local.rpartition("+")[2].lower() if "+" in local else ""
    if tag in VERDICTS:
        return Plan(verdict=tag, times=_TIMES.get(tag, 0))
    if tag in ACTS:
        return Plan(act=tag, text={"reply": "Thank you, when do you open?", "stop": "STOP"}.get(tag, ""))
    return Plan()


def of_phone(number: str) -> Plan:
    """The plan of a phone number: Twilio's test numbers and ours, +1500555NNNN."""
    if number in TWILIO_ERRORS:
        return Plan(verdict="error")
    match number.removeprefix("+1500555"):
        case "1001":
            return Plan(act="reply", text="STOP")
        case "1002":
            return Plan(act="reply", text="when does it open?")
        case "1429":
            return Plan(verdict="429", times=1)
        case "1500":
            return Plan(verdict="500", times=2)
        case "1501":
            return Plan(verdict="500accepted")
        case "1504":
            return Plan(verdict="timeout")
    return Plan()


def of_chat(chat_id: str) -> Plan:
    """The plan of a Telegram chat."""
    match chat_id:
        case "403001":
            return Plan(verdict="blocked")
        case "429001":
            return Plan(verdict="429", times=1)
        case "500001":
            return Plan(verdict="500", times=2)
    return Plan()


class Counter:
    """How often a verdict was given for one message: 429 once, 500 twice, then it is taken."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def verdict(self, plan: Plan, message: str) -> str | None:
        """The verdict for this try of `message` (its touch, else its address)."""
        if plan.verdict is None or not plan.times:
            return plan.verdict
        given = self._given.get(message, 0)
        if given >= plan.times:
            return None
        self._given[message] = given + 1
        return plan.verdict
