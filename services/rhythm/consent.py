"""Whether a member allows marketing on a channel about a topic (WIRE 2). Pure."""

from collections.abc import Iterable

from services.rhythm.model import Consent

WHOLE = "*"


def verdict(consents: Iterable[Consent], channel: str, topic: str) -> Consent | None:
    """The statement that decides; None when there is none, which means denied: a denied "*" wins; else
    the topic's entry; else the "*" entry."""
    whole = own = None
    for c in consents:
        if c.channel == channel:
            if c.topic == WHOLE:
                whole = c
            if c.topic == topic:
                own = c
    if whole is not None and whole.state == "denied":
        return whole
    return own or whole
