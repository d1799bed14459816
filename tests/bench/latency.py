"""From the HTTP call with an event to the message at the capture server, triggered campaign, all running.

Idle: one event at a time. Under way: 50 a second, each of which is to give a message. Both after a
warm-up. The end is capture's own instant of taking the message, on the same machine and clock. A reader
beside sees when each hop's record was there: `p50 to member-events` and so on are milliseconds from the call.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import TopicPartition

from rondo_common import kafka, topics
from rondo_common.clock import from_iso
from tests.bench import shop
from tests.bench.baselines import bare_chain
from tests.bench.frame import Figure, Usage, World, per_second, quantile, transactions
from tests.support.spine_api import Api, until
from tests.support.stack import Stack

NAME = "latency"
TITLE = "event to message at the capture server, idle and at 50 events/s"
GOAL_MS = 300
RATE = 50
EVENT = "Cart Left"
HOPS = (topics.EVENTS, topics.MEMBER_EVENTS, topics.touches("triggered"), topics.sends("email", "triggered"))
TEMPLATE = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@shop.example>",
        "subject": "Still in your cart, {{ member.firstName }}",
        "text": "You left {{ event.product }} behind. {{ links.unsubscribe }}",
        "html": '<p>You left {{ event.product }} behind. <a href="{{ links.unsubscribe }}">Unsubscribe</a></p>',
    },
}
CAMPAIGN = {
    "type": "triggered",
    "class": "marketing",
    "topic": "offers",
    "template": "latency",
    "channels": ["email"],
    "trigger": {"event": EVENT},
    "reentry": "always",
}


class Beside:
    """A reader of the hops' topics that notes when it first saw a record about each probe's messageId
    (events, member events) or member (later hops)."""

    def __init__(self, bootstrap: str):
        self.seen: dict[str, dict[str, float]] = {name: {} for name in HOPS}
        self._consumer = kafka.reader(bootstrap, "bench-hops", enable_partition_eof=False)
        at = [TopicPartition(name, p, -1) for name in HOPS for p in range(bare_chain.PARTITIONS)]
        self._consumer.assign(at)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            now = time.time()
            for m in (first, *self._consumer.consume(500, 0)):
                if m.error() is None and m.key():
                    self.seen[m.topic()].setdefault(m.key().decode(), now)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()


class Line:
    """A stack with the campaign and `members` members who may be written to; each probe is another member."""

    def __init__(self, stack: Stack, members: int):
        self.stack = stack
        self._next = 0
        self._members = members
        self._api = Api(stack)
        self._api.put("/v1/templates/latency", TEMPLATE)
        self._api.put("/v1/campaigns/latency", CAMPAIGN)
        self._run = self._api.post("/v1/campaigns/latency/start")["run_id"]
        consent = {"channel": "email", "topic": "offers", "state": "granted", "source": "bench"}
        self._api.send(
            e
            for n in range(members)
            for e in (
                {
                    "type": "identify",
                    "userId": f"l{n}",
                    "traits": {"email": f"l{n}@latency.example", "firstName": f"N{n}", "timezone": "Europe/Vienna"},
                },
                {"type": "track", "userId": f"l{n}", "event": "Consent Changed", "properties": consent},
            )
        )
        self._api.drain()

    def close(self) -> None:
        self._api.close()

    def probe(self, door: shop.Door) -> tuple[str, float]:
        """Post one event of the next member: its address and the instant (s) before the call."""
        n = self._next
        self._next += 1
        if n >= self._members:
            raise ValueError("more probes than members")
        began = time.time()
        status = door.track(userId=f"l{n}", event=EVENT, properties={"product": f"record {n}", "total": 30})
        if status != 200:
            raise RuntimeError(f"the door answered {status}")
        return f"l{n}@latency.example", began

    def paced(self, count: int, rate: float) -> dict[str, float]:
        """Probes at `rate` a second, by address the instant of each call."""
        door = shop.Door(self.stack.http("ingestion"), self.stack.write_key)
        sent: dict[str, float] = {}
        begin = time.monotonic()
        for i in range(count):
            time.sleep(max(0.0, begin + i / rate - time.monotonic()))
            address, at = self.probe(door)
            sent[address] = at
        door.close()
        return sent

    def arrived(self, sent: dict[str, float]) -> dict[str, dict[str, Any]]:
        """The captured message of each probe by address, once all are there."""

        def look() -> dict[str, dict[str, Any]] | None:
            found = {m["to"]: m for m in self._api.inbox(campaign="latency") if m["to"] in sent}
            return found if len(found) == len(sent) else None

        found: dict[str, dict[str, Any]] = until(look, f"{len(sent)} messages", 60.0, 0.5)
        return found


@contextmanager
def _beside(stack: Stack) -> Iterator[Beside]:
    reader = Beside(stack.kafka)
    try:
        time.sleep(1.0)
        yield reader
    finally:
        reader.stop()


def measured(line: Line, count: int, rate: float) -> tuple[list[float], dict[str, float | str]]:
    """Milliseconds of each probe, and where the time went."""
    with _beside(line.stack) as reader:
        made, before = transactions(line.stack), Usage.of(line.stack)
        sent = line.paced(count, rate)
        after = Usage.of(line.stack)
        made = transactions(line.stack) - made
        found = line.arrived(sent)
        time.sleep(0.3)
        seen = reader.seen
    delays = [from_iso(found[a]["received_at"]) - at * 1e3 for a, at in sent.items()]
    details: dict[str, float | str] = {
        "p50 ms": round(quantile(delays, 0.5), 1),
        "p90 ms": round(quantile(delays, 0.9), 1),
        "max ms": round(max(delays), 1),
        "messages": float(len(delays)),
    }
    for name in HOPS:
        hops = [
            (at - sent[a]) * 1e3
            for a in sent
            if (at := seen[name].get(f"{found[a]['workspace']}:{found[a]['member_id']}")) is not None
        ]
        if hops:
            short = name.removeprefix("rondo.").removesuffix(".v1")
            details[f"p50 to {short}"] = round(quantile(hops, 0.5), 1)
            details[f"p99 to {short}"] = round(quantile(hops, 0.99), 1)
    wall = after.at - before.at
    details |= per_second(made, wall)
    details["cores busy"] = round(sum((after - before).values()) / wall, 2)
    return delays, details


def run(world: World) -> list[Figure]:
    idle, busy = world.size(50, 5), world.size(500, 30)
    warm = world.size(200, 10)
    with world.stack() as stack:
        line = Line(stack, idle + busy + warm)
        try:
            line.arrived(line.paced(warm, 20))
            alone = measured(line, idle, 4)
            under_way = measured(line, busy, RATE)
        finally:
            line.close()
    bare = bare_chain.latency(world.folder, world.size(100, 10), 0.1)
    return [
        Figure(
            name,
            round(quantile(delays, 0.99), 1),
            "ms p99",
            higher_is_better=False,
            baseline=round(quantile(bare, 0.99), 1),
            baseline_name="bare chain of three hops, idle",
            goal=GOAL_MS,
            details={**details, "bare p50 ms": round(quantile(bare, 0.5), 1)},
        )
        for name, (delays, details) in (("idle", alone), (f"{RATE} events/s", under_way))
    ]
