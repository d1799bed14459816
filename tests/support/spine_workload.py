"""The work of the chaos test: 2,000 members, 20,000 events, segments, policies, campaigns. Seeded.

Everything is made from a seed and fixed instants, so that two stacks with the same secret, clock and
Idempotency-Keys give the same ids and must end the same. Members meet what matters: anonymous beginnings
that are linked later, aliases that merge two profiles, traits and consents that arrive out of order,
addresses that bounce, zones in which it is night, budgets that are used up.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.spine_people import CONTENT

NOW = "2026-12-01T12:00:00Z"
"""The frozen clock: 13:00 in Paris, 04:00 in Los Angeles, 21:00 in Tokyo."""
AFTERWARDS = "2026-12-01T12:10:00Z"
"""Where the clock goes for what is due a little later: retries, and asking after lost answers."""
EVENTS, MEMBERS, LIVE = 20_000, 2_000, 400
SEED = 20261201
LANES = 4
_ZONES = ("Europe/Paris", "America/Los_Angeles", "Asia/Tokyo")

SEGMENTS: dict[str, dict[str, Any]] = {
    "loyal": {
        "event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}
    },
    "gold": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
    "spenders": {
        "event": {"name": "Order Completed", "measure": "sum", "property": "total", "operator": "gt", "value": 100}
    },
    "asleep": {"event": {"name": "Order Completed", "measure": "last", "operator": "before", "value": {"ago": "P60D"}}},
    "audience": {"or": [{"segment": {"id": "loyal"}}, {"segment": {"id": "gold"}}]},
}
POLICIES: dict[str, dict[str, Any]] = {
    "quiet_hours/night": {
        "channels": ["sms"],
        "windows": [{"days": ["mo", "tu", "we", "th", "fr", "sa", "su"], "from": "21:00", "to": "08:00"}],
        "timezone": ["member", "workspace"],
    },
    "budget/weekly": {"channels": ["*"], "topics": ["offers"], "limit": 2, "per": "P7D", "on_exceed": "defer"},
}
_MARKETING = {"class": "marketing", "topic": "offers", "template": "all"}
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "spring": {
        "type": "broadcast",
        **_MARKETING,
        "channels": ["email", "sms", "messaging"],
        "channel_rule": "all",
        "audience": {"segment": "audience"},
        "schedule": {"at": "now"},
    },
    "cart": {
        "type": "triggered",
        **_MARKETING,
        "channels": ["email"],
        "trigger": {
            "event": "Cart Abandoned",
            "where": [{"property": "total", "operator": "gte", "value": 20}],
        },
        "reentry": "once",
    },
}


@dataclass
class Workload:
    """Events in order within each lane; a member (with all its earlier selves) stays in one lane. `live`
    comes after the import, slowly."""

    lanes: list[list[dict[str, Any]]] = field(default_factory=lambda: [[] for _ in range(LANES)])
    live: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(map(len, self.lanes)) + len(self.live)


def make(seed: int = SEED) -> Workload:
    """Exactly EVENTS events of MEMBERS members."""
    rnd = random.Random(seed)
    made = Workload()
    people = [_Person(n, random.Random(f"{seed}:{n}")) for n in range(MEMBERS)]
    # in rounds, so that the lives of all members run side by side
    for part in (_Person.beginning, _Person.middle, _Person.end):
        order = list(people)
        rnd.shuffle(order)
        for p in order:
            made.lanes[p.number % LANES].extend(part(p))
    for n in range(LIVE):
        p = people[rnd.randrange(MEMBERS)]
        made.live.append(p.event("track", 1 + n / 1000, event="Page Viewed", properties={"page": f"/{n % 9}"}))
    for n in range(EVENTS - made.total):
        p = people[n % MEMBERS]
        made.lanes[p.number % LANES].append(p.event("page", 3 + n / 1000, name="Home", properties={"n": n}))
    return made


class _Person:
    """One member's life."""

    def __init__(self, number: int, rnd: random.Random):
        self.number, self.rnd = number, rnd
        self.user = f"m{number:04d}"
        self.anonymous = f"browser-{number}" if number % 10 == 0 else None
        self.former = f"old{number:04d}" if number % 50 == 5 else None
        self.bounces = number % 97 == 3
        self.count = 0

    def event(self, kind: str, days_ago: float, user: str = "", **body: Any) -> dict[str, Any]:
        self.count += 1
        at = datetime.fromisoformat(NOW).astimezone(UTC) - timedelta(days=days_ago)
        who = {} if "anonymousId" in body else {"userId": user or self.user}
        text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"type": kind, "messageId": f"{self.user}-{self.count}", "timestamp": text, **who, **body}

    def consent(self, channel: str, state: str, days_ago: float, topic: str = "offers") -> dict[str, Any]:
        properties = {"channel": channel, "topic": topic, "state": state, "source": "form", "text_version": "1"}
        return self.event("track", days_ago, event="Consent Changed", properties=properties)

    def beginning(self) -> Iterator[dict[str, Any]]:
        """Who they are and what they allow; statements may come in any order."""
        rnd, n = self.rnd, self.number
        if self.anonymous:
            yield self.event("page", 100, anonymousId=self.anonymous, name="Home")
            yield self.event("track", 99, anonymousId=self.anonymous, event="Product Viewed", properties={"id": n})
        if self.former:
            yield self.event("identify", 98, user=self.former, traits={"firstName": "Former", "company": f"c{n}"})
            yield self.event("track", 97, user=self.former, event="Order Completed", properties={"total": 7.5})
        traits: dict[str, Any] = {"firstName": f"N{n}", "timezone": rnd.choices(_ZONES, (70, 15, 15))[0]}
        if self.bounces or rnd.random() < 0.9:
            traits["email"] = f"{self.user}{'+hardbounce' if self.bounces else ''}@example.com"
        if rnd.random() < 0.8:
            traits["phone"] = f"+336{n:08d}"
        if not self.bounces and rnd.random() < 0.6:
            traits["telegram_chat_id"] = str(7_000_000 + n)
        link = {"context": {}, "anonymousId": self.anonymous} if self.anonymous else {}
        said = self.event("identify", 90, traits=traits)
        yield {**said, **link}
        if self.former:
            yield self.event("alias", 89, previousId=self.former)
        for channel, share in (("email", 0.8), ("sms", 0.75), ("messaging", 0.8)):
            granted = self.bounces or rnd.random() < share
            yield self.consent(channel, "granted" if granted else "denied", 80)
        if n % 7 == 0:
            # an older statement that comes later must not win
            yield self.consent("email", "denied", 85)
        if n % 13 == 0:
            yield self.consent("sms", "denied", 70, topic="*")

    def middle(self) -> Iterator[dict[str, Any]]:
        """What they buy, and traits that change, the newer one first."""
        rnd = self.rnd
        for _ in range(rnd.choice((0, 1, 2, 3, 4))):
            total = rnd.randrange(500, 6000) / 100
            yield self.event("track", rnd.uniform(2, 120), event="Order Completed", properties={"total": total})
        plans = ["gold" if rnd.random() < 0.5 else "free", "silver"]
        yield self.event("identify", 10, traits={"plan": plans[0], "visits": rnd.randrange(9)})
        yield self.event("identify", 20, traits={"plan": plans[1], "city": rnd.choice(("Paris", "Rome"))})

    def end(self) -> Iterator[dict[str, Any]]:
        """Carts left behind; those who were somebody else before leave none."""
        if self.number % 4 == 1 and not self.bounces and not self.former:
            yield self.event("track", 1.5, event="Cart Abandoned", properties={"total": 10 + self.number % 30})


def define(api: Any) -> dict[str, str]:
    """Put all definitions and open the triggered campaign. Run ids by campaign."""
    api.put("/v1/templates/all", CONTENT)
    for name, rule in SEGMENTS.items():
        api.put(f"/v1/segments/{name}", {"name": name, "rule": rule})
    for name, body in POLICIES.items():
        api.put(f"/v1/policies/{name}", body)
    for name, body in CAMPAIGNS.items():
        api.put(f"/v1/campaigns/{name}", body)
    return {"cart": api.post("/v1/campaigns/cart/start", key="chaos-cart")["run_id"]}
