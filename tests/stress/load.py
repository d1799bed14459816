"""Events of people, sent from several lanes with every refusal or cut line tried again under the same id.

People come block by block: who they are, what they allow, what they buy. What must follow from it is known
here: who is a buyer, who left a cart, how often each did what.
"""

import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import httpx

from tests.support.spine_api import Api
from tests.support.spine_people import CONTENT

LANES, BLOCK, PER_PERSON = 4, 40, 10
ORDER, CART, PAGE = "Order Completed", "Cart Abandoned", "Product Viewed"
COUNTED = frozenset((ORDER, CART, PAGE))
BUYS = 3
"""Orders that make a buyer."""
BUYERS, CARTS, SPRING = "buyers", "cart", "spring"
PATIENCE_S = 150.0
"""How long one call is made again and again before the door counts as dead."""

Event = dict[str, Any]


@dataclass
class Person:
    """One member and the numbers that must come out."""

    user: str
    number: int
    orders: int
    cart: bool
    mail: bool
    """Allows e-mail."""
    rnd: random.Random
    made: int = 0
    last_total: float = 0.0

    @property
    def buyer(self) -> bool:
        return self.orders >= BUYS

    def event(self, kind: str, **body: Any) -> Event:
        self.made += 1
        at = datetime.now(UTC) - timedelta(days=2) + timedelta(seconds=self.made)
        return {
            "type": kind,
            "messageId": f"{self.user}-{self.made}",
            "userId": self.user,
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **body,
        }

    def consent(self, channel: str, state: str) -> Event:
        said = {"channel": channel, "topic": "offers", "state": state, "source": "form", "text_version": "1"}
        return self.event("track", event="Consent Changed", properties=said)

    def life(self, events: int) -> list[Event]:
        """Exactly so many events; fewer than nine leave out pages, never what counts."""
        n = self.number
        traits = {
            "email": f"{self.user}@example.com",
            "phone": f"+336{n % 10**8:08d}",
            "telegram_chat_id": str(7_000_000_000 + n),
            "firstName": f"N{n}",
        }
        out = [self.event("identify", traits=traits)]
        out += [self.consent("email", "granted" if self.mail else "denied")]
        out += [self.consent(c, "granted") for c in ("sms", "messaging")]
        for _ in range(self.orders):
            self.last_total = self.rnd.randrange(500, 9000) / 100
            out.append(self.event("track", event=ORDER, properties={"total": self.last_total}))
        if self.cart:
            out.append(self.event("track", event=CART, properties={"total": 20 + n % 50}))
        while len(out) < events:
            out.append(self.event("track", event=PAGE, properties={"id": n % 99}))
        return out


def people(tag: str, events: int, seed: int) -> list[Person]:
    """As many as so many events need."""
    out = []
    for n in range(max(1, events // PER_PERSON)):
        rnd = random.Random(f"{seed}:{tag}:{n}")
        number = zlib.crc32(tag.encode()) % 1000 * 10**5 + n
        out.append(Person(f"{tag}-{n}", number, rnd.randrange(0, 6), n % 3 == 0, n % 10 != 0, rnd))
    return out


@dataclass
class Answers:
    """What the door said, over all lanes. `late` are seconds of each accepted call."""

    accepted: set[str] = field(default_factory=set)
    repeats: int = 0
    """Calls made again after a refusal or a broken line."""
    statuses: Counter[int] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    """Instants (monotonic) of the accepted calls."""
    when: dict[str, float] = field(default_factory=dict)
    """The same by message id."""

    def quantile(self, q: float) -> float:
        found = sorted(self.late)
        return found[min(len(found) - 1, int(q * len(found)))] if found else 0.0

    def longest_gap(self) -> float:
        """Longest time without an accepted call."""
        found = sorted(self.at)
        return max((b - a for a, b in pairwise(found)), default=0.0)


class Load:
    """`events` events of people, sent in the background. `rate` events a second in all, 0: as fast as they are
    taken. `batch` events a call."""

    def __init__(self, api: Api, tag: str, events: int, seed: int, rate: float = 0.0, batch: int = 100):
        self.api, self.tag = api, tag
        self.people = people(tag, events, seed)
        self.total = max(events, PER_PERSON)
        self.rate, self.batch = rate, batch
        self.answers = Answers()
        self.counts: dict[str, Counter[str]] = {}
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lanes = self._made()

    def _made(self) -> list[list[Event]]:
        lanes: list[list[Event]] = [[] for _ in range(LANES)]
        extra = self.total - PER_PERSON * len(self.people)
        for start in range(0, len(self.people), BLOCK):
            block = self.people[start : start + BLOCK]
            lives = [p.life(PER_PERSON + (extra if p is self.people[-1] else 0)) for p in block]
            longest = max(map(len, lives))
            for step in range(longest):  # side by side, each in order
                for p, life in zip(block, lives, strict=True):
                    if step < len(life):
                        lanes[p.number % LANES].append(life[step])
            for p, life in zip(block, lives, strict=True):
                self.counts[p.user] = Counter(e["event"] for e in life if e.get("event") in COUNTED)
        return lanes

    @property
    def ids(self) -> set[str]:
        """Every message id, by the plan."""
        return {e["messageId"] for lane in self._lanes for e in lane}

    def counted(self) -> set[str]:
        """Ids of the events that count: each must have one effect."""
        return {e["messageId"] for lane in self._lanes for e in lane if e.get("event") in COUNTED}

    def start(self) -> "Load":
        begun = time.monotonic()
        for number, lane in enumerate(self._lanes):
            thread = threading.Thread(target=self._lane, args=(number, lane, begun), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    @property
    def sending(self) -> bool:
        return any(t.is_alive() for t in self._threads)

    def wait(self) -> "Load":
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        return self

    def _lane(self, number: int, events: list[Event], begun: float) -> None:
        try:
            with httpx.Client(
                base_url=self.api.door.base_url, auth=self.api.door.auth, timeout=30, trust_env=False
            ) as client:
                for done, part in _parts(events, self.batch):
                    if self.rate:
                        time.sleep(max(0.0, begun + done * LANES / self.rate - time.monotonic()))
                    self._send(client, part)
        except BaseException as e:
            self.failure = e

    def _send(self, client: httpx.Client, part: list[Event]) -> None:
        first = time.monotonic()
        for attempt in count():
            began = time.monotonic()
            if began - first > PATIENCE_S:
                raise AssertionError(f"ingestion took nothing for {PATIENCE_S:.0f} s: {self.answers.statuses}")
            try:
                answer = client.post("/v1/batch", json={"batch": part}, headers={"X-Strict-Mode": "1"})
            except httpx.HTTPError:
                status, wait = 0, 0.2
            else:
                status = answer.status_code
                wait = min(float(answer.headers.get("Retry-After", "0.2")), 2.0)
            now = time.monotonic()
            with self._lock:
                self.answers.statuses[status] += 1
                if status == 200:
                    self.answers.accepted.update(e["messageId"] for e in part)
                    self.answers.when.update((e["messageId"], now) for e in part)
                    self.answers.late.append(now - began)
                    self.answers.at.append(now)
                    self.answers.repeats += attempt
                    return
            assert status in (0, 429) or status >= 500, f"{status}: {answer.text[:500]}"
            time.sleep(wait)


def _parts(events: list[Event], size: int) -> Iterator[tuple[int, list[Event]]]:
    for start in range(0, len(events), size):
        yield start, events[start : start + size]


MARKETING = {"class": "marketing", "topic": "offers", "template": "all"}


def define(api: Api, cart: bool = True) -> None:
    """Segment, template, and the campaigns: one triggered by carts, one broadcast to buyers."""
    api.put("/v1/templates/all", CONTENT)
    rule = {"event": {"name": ORDER, "measure": "count", "operator": "gte", "value": BUYS}}
    api.put(f"/v1/segments/{BUYERS}", {"name": "Buyers", "rule": rule})
    spring = {
        "type": "broadcast",
        **MARKETING,
        "channels": ["email", "sms", "messaging"],
        "channel_rule": "all",
        "audience": {"segment": BUYERS},
        "schedule": {"at": "now"},
    }
    api.put(f"/v1/campaigns/{SPRING}", spring)
    if cart:
        triggered = {"type": "triggered", **MARKETING, "channels": ["email"], "trigger": {"event": CART}}
        api.put(f"/v1/campaigns/{CARTS}", {**triggered, "reentry": "once"})
        api.post(f"/v1/campaigns/{CARTS}/start", key="start-cart")
    api.drain(60)
