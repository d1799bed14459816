"""A shop's events, and posting them at a stated pace over plain connections that stay open."""

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

BATCH = 100
CATEGORIES = ("jazz", "rock", "folk", "soul", "opera", "dub", "ska", "blues")
SEGMENTS: dict[str, dict[str, Any]] = {
    "buyers": {"event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 1}},
    "loyal": {
        "event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 2, "within": "P30D"}
    },
    "spenders": {
        "event": {"name": "Order Completed", "measure": "sum", "property": "total", "operator": "gt", "value": 150}
    },
    "jazz-fans": {
        "event": {
            "name": "Product Viewed",
            "where": [{"property": "category", "operator": "eq", "value": "jazz"}],
            "measure": "count",
            "operator": "gte",
            "value": 3,
            "within": "P7D",
        }
    },
    "gold": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
    "gold-buyers": {"and": [{"segment": {"id": "gold"}}, {"segment": {"id": "buyers"}}]},
}
"""Rules over counts, sums, windows, traits and other segments. Two of five events are read by one."""


class Shop:
    """Batches of a shop with `members` known members: of ten events seven are views of a product, one an
    order, one a page, one an identify that changes a trait. Threads may share it."""

    def __init__(self, members: int, seed: int = 7):
        self.members = members
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._made = 0
        self._run = f"{time.time_ns():x}"

    def arrivals(self) -> list[bytes]:
        """Batches in which every member is identified for the first time."""
        events = [
            f'{{"type":"identify","userId":"u{n}","messageId":"a{n}-{self._run}","traits":'
            f'{{"email":"u{n}@shop.example","firstName":"Name{n}","plan":"basic","timezone":"Europe/Vienna"}}}}'
            for n in range(self.members)
        ]
        return [_body(events[at : at + BATCH]) for at in range(0, len(events), BATCH)]

    def batch(self) -> bytes:
        """The next batch of everyday events."""
        with self._lock:
            first = self._made
            self._made += BATCH
            draws = [(self._random.randrange(self.members), self._random.randrange(1 << 30)) for _ in range(BATCH)]
        return _body([self._event(first + i, member, luck) for i, (member, luck) in enumerate(draws)])

    def _event(self, number: int, member: int, luck: int) -> str:
        head = f'"userId":"u{member}","messageId":"m{number}-{self._run}"'
        kind, rest = luck % 10, luck // 10
        if kind < 7:
            return (
                f'{{"type":"track",{head},"event":"Product Viewed","properties":{{"product_id":"p{rest % 500}",'
                f'"name":"Record number {rest % 500}","category":"{CATEGORIES[rest % 8]}","price":{rest % 40}.5,'
                f'"currency":"EUR"}},"context":{{"ip":"192.0.2.7","userAgent":"Mozilla/5.0 (X11; Linux x86_64)",'
                f'"page":{{"path":"/records/{rest % 500}","referrer":"https://search.example/"}}}}}}'
            )
        if kind == 7:
            return (
                f'{{"type":"track",{head},"event":"Order Completed","properties":{{"order_id":"o{number}",'
                f'"total":{rest % 90}.25,"currency":"EUR","products":[{{"product_id":"p{rest % 500}","quantity":1}}]}}}}'
            )
        if kind == 8:
            return f'{{"type":"page",{head},"name":"Home","properties":{{"path":"/","title":"Records"}}}}'
        plan = ("basic", "silver", "gold")[rest % 3]
        return f'{{"type":"identify",{head},"traits":{{"plan":"{plan}","visits":{rest % 100}}}}}'


def _body(events: list[str]) -> bytes:
    return f'{{"batch":[{",".join(events)}]}}'.encode()


class Door:
    """One connection to ingestion that stays open."""

    def __init__(self, url: str, write_key: str):
        self._at = urlsplit(url)
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(f"{write_key}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        self._connection = http.client.HTTPConnection(self._at.hostname or "", self._at.port, timeout=30)

    def post(self, path: str, body: bytes) -> int:
        """The status; 503 and 429 are answers like others."""
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def track(self, **event: Any) -> int:
        """One track call."""
        return self.post("/v1/track", json.dumps(event).encode())

    def close(self) -> None:
        self._connection.close()


class Poster:
    """Posts batches at `rate` events/s (None: as fast as they are taken) until `stop`, from threads of
    this process. `posted` counts accepted events, `refused` batches that were answered otherwise."""

    def __init__(self, url: str, write_key: str, next_batch: Callable[[], bytes | None], connections: int = 4):
        self.posted = 0
        self.refused = 0
        self.rate: float | None = None
        self._next = next_batch
        self._due = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._doors = [Door(url, write_key) for _ in range(connections)]
        self._threads = [threading.Thread(target=self._run, args=(door,), daemon=True) for door in self._doors]

    def start(self, rate: float | None) -> "Poster":
        self.pace(rate)
        for thread in self._threads:
            thread.start()
        return self

    def pace(self, rate: float | None) -> None:
        """Another pace from now on; 0 pauses. What could not be posted at the old one is not made up for."""
        with self._lock:
            self.rate, self._due = rate, time.monotonic()

    def wait(self) -> None:
        """Until `next_batch` has given None to every connection."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        for door in self._doors:
            door.close()

    def _slot(self) -> float | None:
        """Seconds until the next batch is due, None when none is to be posted now."""
        with self._lock:
            if self.rate is None:
                return 0.0
            if self.rate == 0:
                return None
            due = self._due
            self._due += BATCH / self.rate
            return due - time.monotonic()

    def _run(self, door: Door) -> None:
        while not self._stop.is_set():
            wait = self._slot()
            if wait is None:
                self._stop.wait(0.02)
                continue
            if wait > 0:
                self._stop.wait(wait)
            body = self._next()
            if body is None:
                return
            while not self._stop.is_set():
                if door.post("/v1/batch", body) == 200:
                    with self._lock:
                        self.posted += BATCH
                    break
                with self._lock:
                    self.refused += 1
                self._stop.wait(0.2)
