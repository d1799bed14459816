"""Gives each customer of the file an address, a phone, a chat, a zone, a language and consents.

A seeded generator: the same seed gives the same people. Plain data, nothing of Rondo.
"""

import random
from dataclasses import dataclass, field

ZONES = {
    "fr": "Europe/Paris",
    "en": "America/New_York",
    "es": "America/Bogota",
    "de": "Europe/Berlin",
    "ja": "Asia/Tokyo",
}
"""Zones whose offset is a whole number of hours, so that one quiet-hours edge suits them all."""
LOCALES = {"fr": "fr-FR", "en": "en-US", "es": "es-CO", "de": "de-DE", "ja": "ja-JP"}
FIRST = ("Ann", "Ben", "Chloé", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea", "Mio", "Noa", "Ole")


@dataclass
class Person:
    """One customer. `consents` maps (channel, topic) to granted or denied."""

    customer: str
    first_name: str
    language: str
    email: str | None = None
    phone: str | None = None
    chat: str | None = None
    preferred: str | None = None
    consents: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def user_id(self) -> str:
        return f"c{self.customer}"

    @property
    def zone(self) -> str:
        return ZONES[self.language]

    def traits(self) -> dict[str, str]:
        """Traits of the identify call."""
        found = {
            "firstName": self.first_name,
            "timezone": self.zone,
            "locale": LOCALES[self.language],
            "email": self.email,
            "phone": self.phone,
            "telegram_chat_id": self.chat,
            "preferred_channel": self.preferred,
        }
        return {k: v for k, v in found.items() if v is not None}


def make(customers: list[str], seed: int = 1997) -> dict[str, Person]:
    """A person for each customer, in order."""
    rnd = random.Random(seed)
    people = {}
    for n, customer in enumerate(sorted(customers)):
        language = rnd.choices(list(ZONES), (30, 30, 15, 15, 10))[0]
        p = Person(customer, rnd.choice(FIRST), language)
        if rnd.random() < 0.85:
            p.email = f"{p.first_name.lower().replace('é', 'e')}.{customer}@members.example"
        if rnd.random() < 0.55:
            p.phone = f"+33612{n:06d}"
        if rnd.random() < 0.25:
            p.chat = str(5_000_000 + n)
        # "*" first, then the topic: the most specific statement does not beat a denied channel
        for channel, address in (("email", p.email), ("sms", p.phone), ("messaging", p.chat)):
            if not address:
                continue
            draw = rnd.random()
            if draw < 0.70:
                p.consents[channel, "offers"] = "granted"
            elif draw < 0.78:
                p.consents[channel, "offers"] = "denied"
            elif draw < 0.83:
                p.consents[channel, "*"] = "denied"
                p.consents[channel, "offers"] = "granted"
            elif draw < 0.88:
                p.consents[channel, "*"] = "granted"
        people[customer] = p
    return people
