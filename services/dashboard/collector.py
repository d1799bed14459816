"""The one that asks: a sample a second, made into fragments of pages once, handed to whoever looks.

    processes  every second                 readyz, metrics
    runs       every 2 s (all: every 20 s)  the gateway
    talks      every 2 s                    the gateway
    inbox      every 5 s                    the gateway
    offsets    every 2 s                    the broker, in a thread of its own

Each goes at its own pace and keeps what it saw last, so that a slow or missing one delays nobody.
While nobody looks, everything goes more slowly.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from rondo_common import telemetry, topics
from rondo_common.clock import Clock
from services.dashboard import runs, talks, words
from services.dashboard.clients.broker import EVERY_S as BROKER_EVERY_S
from services.dashboard.clients.broker import Broker
from services.dashboard.clients.gateway import Gateway, Refused, path
from services.dashboard.clients.processes import Processes
from services.dashboard.dead import by_topic
from services.dashboard.exposition import total
from services.dashboard.fragments import fragments
from services.dashboard.model import Rate, Sample, Service, Snapshot, Source, Stage
from services.dashboard.rates import Pace
from services.dashboard.stages import LAG, RECORDS, StageWatch

EVERY_S = 1.0
UNWATCHED_EVERY_S = 15.0
"""Asking everybody took 4 % of a core at 5 s, the processes' answers not counted."""
LOOKED_AT_S = 10.0
"""A page that was asked for counts as watched for this long, until its event stream is there."""
BROKER_SILENT_S = 8.0
TALKS_SHOWN = 50
NAMES_AT_ONCE = 10
NAMES_KEPT = 5_000
NAMES_HOLD_S = 60.0

INGESTED = "rondo_ingest_events_total"
EMITTED = "rondo_stream_emitted_total"
CALLS = "rondo_delivery_calls_total"
LINKS = "rondo_links_engagement_total"
WANTED = (LAG, RECORDS, INGESTED, EMITTED, CALLS, LINKS)
RATES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Events accepted", INGESTED, {"outcome": "accepted"}),
    ("Decisions", EMITTED, {"stage": "rhythm", "topic": topics.DECISIONS}),
    ("Messages sent", CALLS, {"verdict": "accepted"}),
    ("Opens and clicks", LINKS, {}),
)
"""Name, metric, labels."""

log = telemetry.logger(__name__)


class Published(NamedTuple):
    """A snapshot and its fragments, by name."""

    snapshot: Snapshot
    html: dict[str, str]


class Asked:
    """One thing that is asked for again and again: the last answer, how old it is, why there is none."""

    def __init__(self, name: str, missing: str, empty: Any):
        self.name, self.missing, self.value = name, missing, empty
        self.began = time.monotonic()
        self.seen_at: float | None = None
        self.why = ""

    def source(self, now: float) -> Source:
        if not self.why:
            return Source(self.name)
        return Source(self.name, now - (self.seen_at or self.began), self.why, self.missing)


class Collector:
    """Samples and hands out. Used from one event loop; `run` until cancelled."""

    def __init__(self, processes: Processes, gateway: Gateway, broker: Broker | None, clock: Clock):
        self._processes, self._gateway, self._broker, self._clock = processes, gateway, broker, clock
        self._runs = Asked("Campaign runs", "campaigns and their counts", {})
        self._talks = Asked("Conversations", "conversations", ([], False))
        self._inbox = Asked("Inbox", "captured messages", None)
        self._names: dict[str, str] = {}
        self._named_at: dict[str, float] = {}
        self._stages: dict[str, StageWatch] = {}
        self._rates = {name: Pace() for name, _, _ in RATES}
        self._services: list[Service] = []
        self._servers: list[tuple[str, str]] = []
        self._sources: list[Source] = []
        self._lags: list[Stage] = []
        self._sequence = 0
        self._rounds = 0
        self.watching = 0
        """Event streams now."""
        self._looked_at = float("-inf")
        self._wanted = asyncio.Event()
        self._news = asyncio.Condition()
        self._closed = False
        self.latest: Published | None = None

    @property
    def processes(self) -> list[str]:
        """Names of the processes that are watched."""
        return [s.name for s in self._services]

    # who looks

    def looked_at(self) -> None:
        """A page was asked for: be quick for a while."""
        self._looked_at = time.monotonic()
        self._wanted.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody looks all the time."""
        self.watching += 1
        self.looked_at()
        try:
            yield
        finally:
            self.watching -= 1
            self._looked_at = time.monotonic()

    async def following(self) -> AsyncIterator[Published]:
        """The latest sample, then every newer one; a slow reader misses some. Ends at the end."""
        seen = 0
        while not self._closed:
            async with self._news:
                while not self._closed and self._sequence <= seen:
                    await self._news.wait()
            if self.latest is None or self._closed:
                return
            seen = self.latest.snapshot.sequence
            yield self.latest

    async def current(self) -> Published:
        """The latest sample; waits for the first."""
        self.looked_at()
        if self.latest is None:
            await self.sample()
        assert self.latest is not None
        return self.latest

    async def fresh_talks(self) -> Published:
        """A sample with the conversations as they are now."""
        self.looked_at()
        await self._ask(self._talks, self._read_talks)
        return await (self.publish() if self._services else self.current())

    # work

    async def run(self) -> None:
        """Ask until cancelled."""
        rounds = [
            asyncio.create_task(self._every(EVERY_S, self.sample)),
            asyncio.create_task(self._every(2.0, lambda: self._ask(self._runs, self._read_runs))),
            asyncio.create_task(self._every(2.0, lambda: self._ask(self._talks, self._read_talks))),
            asyncio.create_task(self._every(5.0, lambda: self._ask(self._inbox, self._read_inbox))),
        ]
        try:
            await asyncio.gather(*rounds)
        finally:
            for task in rounds:
                task.cancel()
            await self.close()

    async def close(self) -> None:
        """End every stream of samples."""
        self._closed = True
        async with self._news:
            self._news.notify_all()

    async def _every(self, period: float, work: Callable[[], Awaitable[Any]]) -> None:
        while True:
            began = time.monotonic()
            await work()
            idle = not self.watching and time.monotonic() - self._looked_at > LOOKED_AT_S
            if self._broker is not None:
                self._broker.every_s = UNWATCHED_EVERY_S if idle else BROKER_EVERY_S
            if idle:
                self._wanted.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), max(period, UNWATCHED_EVERY_S))
            else:
                await asyncio.sleep(max(0.0, period - (time.monotonic() - began)))

    async def _ask(self, what: Asked, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            what.value = await read()
            what.seen_at, what.why = time.monotonic(), ""
        except Refused as e:
            what.why = str(e)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            what.why = f"the gateway's answer can't be read ({type(e).__name__})"
            log.exception("answer can't be read", what=what.name)

    async def _read_runs(self) -> dict[str, Any]:
        self._rounds += 1
        known = self._runs.value
        newest = (await self._gateway.get("/v1/runs", limit=100 if self._rounds % 10 == 1 else 20))["data"]
        return runs.merged(known, newest)

    async def _read_talks(self) -> tuple[list[dict[str, Any]], bool]:
        page = await self._gateway.get("/v1/conversations", status="open", limit=TALKS_SHOWN)
        found = page["data"]
        old = time.monotonic() - NAMES_HOLD_S
        stale = [c["member_id"] for c in found if self._named_at.get(c["member_id"], -math.inf) < old]
        await asyncio.gather(*(self._name(m) for m in stale[:NAMES_AT_ONCE]))
        return found, bool(page.get("next_cursor"))

    async def _name(self, member_id: str) -> None:
        try:
            member = await self._gateway.get(path("v1", "members", member_id), id_type="member_id")
        except Refused as e:
            if e.status != 404:
                return
            member = {}
        if len(self._names) >= NAMES_KEPT:
            self._names.clear()
            self._named_at.clear()
        self._named_at[member_id] = time.monotonic()
        self._names[member_id] = talks.name_of(member)

    async def _read_inbox(self) -> dict[str, Any]:
        return dict(await self._gateway.get("/v1/inbox/stats"))

    async def sample(self) -> Published:
        """Ask all processes and publish."""
        places, servers = self._processes.places()
        samples = await self._processes.ask(places)
        grouped: dict[str, list[Sample]] = {}
        for s in samples:
            grouped.setdefault(s.place.process, []).append(s)
        self._services = [Service(name, words.ABOUT.get(name, ""), all_of) for name, all_of in grouped.items()]
        self._servers = servers
        at = time.monotonic()
        for name, metric, labels in RATES:
            found = {s.place.url: total(s.metrics, metric, **labels) for s in samples if s.metrics}
            self._rates[name].add(at, found)
        kafka = self._broker_source(at)
        self._sources = [] if kafka is None else [kafka]
        backlog = self._broker.backlog if self._broker and kafka and kafka.silent_s is None else None
        self._lags = []
        for service in self._services:
            watch = self._stages.setdefault(service.name, StageWatch(service.name))
            offsets = None if backlog is None else backlog.get(service.name, {})
            stage = watch.look(at, service.instances, offsets)
            if stage is not None:
                self._lags.append(stage)
        return await self.publish()

    def _broker_source(self, now: float) -> Source | None:
        b = self._broker
        if b is None:
            return None
        age = now - (b.seen_at or b.began)
        if (b.seen_at is not None or not b.why) and age < b.every_s + BROKER_SILENT_S:
            return Source("Kafka")
        return Source("Kafka", age, "the broker does not answer", "dead letters, lag of processes that are down")

    async def publish(self) -> Published:
        """Make a snapshot of all that is known, and its fragments; wake those who follow."""
        now = time.monotonic()
        conversations, more = self._talks.value
        self._sequence += 1
        snapshot = Snapshot(
            sequence=self._sequence,
            now=self._clock.now(),
            frozen=self._clock.frozen,
            sources=[*self._sources, *(a.source(now) for a in (self._runs, self._talks, self._inbox))],
            services=self._services,
            servers=self._servers,
            stages=self._lags,
            rates=[
                Rate(name, pace.history[-1] if pace.history else None, list(pace.history))
                for name, pace in self._rates.items()
            ],
            runs=list(self._runs.value.values()),
            conversations=conversations,
            more_conversations=more,
            dead=by_topic(self._broker.graves) if self._broker else [],
            inbox=self._inbox.value,
        )
        self.latest = Published(snapshot, fragments(snapshot, self._names))
        async with self._news:
            self._news.notify_all()
        return self.latest
