"""What the gate should say, written a second time and naively. Imports nothing of Rondo.

Only what the demo uses: consent, reachability, quiet hours in the member's zone, a budget of one
message in seven days. Gates in Rondo's order: consent, reachable, quiet hours, budget.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from examples.demo.people import Person

CHANNELS = ("email", "sms", "messaging")


def consented(p: Person, channel: str, topic: str) -> str:
    """granted, consent_denied or consent_missing."""
    star, own = p.consents.get((channel, "*")), p.consents.get((channel, topic))
    if star == "denied":
        return "consent_denied"
    said = own or star
    return "granted" if said == "granted" else "consent_denied" if said == "denied" else "consent_missing"


def address(p: Person, channel: str) -> str | None:
    return {"email": p.email, "sms": p.phone, "messaging": p.chat}[channel]


def choose(p: Person, topic: str, channels: tuple[str, ...] = CHANNELS) -> tuple[str, str | None]:
    """The channel a first_reachable touch goes by, and why it can't go by any (None: it can)."""
    for channel in channels:
        if consented(p, channel, topic) == "granted" and address(p, channel):
            return channel, None
    first = channels[0]
    said = consented(p, first, topic)
    return first, said if said != "granted" else "no_address"


def quiet(p: Person, at: datetime, start: str, end: str) -> bool:
    """Whether [start, end) wall time, possibly over midnight, holds at `at` where the member lives."""
    local = at.astimezone(ZoneInfo(p.zone)).strftime("%H:%M")
    return start <= local < end if start < end else local >= start or local < end


def broadcast(
    people: list[Person],
    topic: str,
    at: datetime,
    quiet_hours: tuple[str, str] | None = None,
    already: frozenset[str] = frozenset(),
) -> dict[str, dict[str, list[str]]]:
    """Verdict -> channel or reason -> customers. `already` had a message within the budget's window."""
    out: dict[str, dict[str, list[str]]] = {"send": {}, "defer": {}, "skip": {}}
    for p in people:
        channel, why = choose(p, topic)
        if why:
            verdict, word = "skip", why
        elif quiet_hours and quiet(p, at, *quiet_hours):
            verdict, word = "defer", "quiet_hours"
        elif quiet_hours and p.customer in already:
            verdict, word = "defer", "budget_exceeded"
        else:
            verdict, word = "send", channel
        out[verdict].setdefault(word, []).append(p.customer)
    return out
