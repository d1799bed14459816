"""Definitions: campaigns, segments, templates, policies, runs, keys, webhooks, workspaces.

rondo.definitions.v1 (one partition, compacted, every version kept) is the truth. Each process that
needs them tails the topic from its start into memory. The owner of a kind writes new versions:

    store = DefinitionStore(settings, clock)
    store.start()                                    # in its own thread; ready() when it has caught up
    d = await store.put("demo", "segment", "loyal", {"name": "Loyal", "rule": {...}}, actor="k1")
    store.get("demo", "segment", "loyal").version

A put returns after the topic acknowledged it, every partition has a `definition.activated` command
(for kinds that stages act on), and this process's own view shows it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from rondo_common import ids, kafka, redis_client, telemetry, topics
from rondo_common.clock import Clock, iso
from rondo_common.commands import CommandWriter
from rondo_common.problems import Problem, unavailable
from rondo_common.records import Command, Definition
from rondo_common.settings import Settings

ACTIVATED = frozenset({"segment", "campaign", "template", "quiet_hours", "budget", "conflict", "webhook"})
"""Kinds that stages act on; the others are only stored."""

_CONFIRM_S = 10.0
_LOCK_MS = 15_000
_WAIT_MS = 1_000
"""How long the broker holds a fetch that finds nothing. Every process reads the definitions, and they change seldom;
a record ends the wait at once, so nothing comes later for it."""

log = telemetry.logger(__name__)


class DefinitionStore:
    """All definitions, tailed from the log; `put` and `delete` for their owner."""

    def __init__(self, settings: Settings, clock: Clock, commands: CommandWriter | None = None):
        self._settings = settings
        self._clock = clock
        self._commands = commands
        self._versions: dict[tuple[str, str, str], dict[int, Definition]] = {}
        self._changed = threading.Condition()
        self._listeners: list[Callable[[Definition], None]] = []
        self._caught_up = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._producer: Any = None
        self._redis: Any = None

    # -- reading

    def start(self) -> None:
        """Begin to tail the topic in a daemon thread."""
        self._thread = threading.Thread(target=self._tail, name="definitions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(3.0)

    def ready(self) -> tuple[bool, str]:
        """Whether everything written before the start has been read."""
        return (True, "") if self._caught_up else (False, "definitions are being read")

    def on_change(self, listener: Callable[[Definition], None]) -> None:
        """Call `listener` with each definition read, also the old ones, in the reading thread."""
        self._listeners.append(listener)

    def get(self, workspace: str, kind: str, id: str, version: int | None = None) -> Definition | None:
        """A version, or the newest; None when there is none or the newest says deleted."""
        versions = self._versions.get((workspace, kind, id))
        if not versions:
            return None
        d = versions.get(max(versions) if version is None else version)
        return None if d is None or (d.deleted and version is None) else d

    def versions(self, workspace: str, kind: str, id: str) -> list[Definition]:
        """All versions, oldest first."""
        return [d for _, d in sorted(self._versions.get((workspace, kind, id), {}).items())]

    def list(self, workspace: str, kind: str) -> list[Definition]:
        """The newest version of each, in order of ids, without deleted ones."""
        return [d for d in self.all(kind) if d.workspace == workspace]

    def all(self, kind: str) -> list[Definition]:
        """The same over all workspaces."""
        newest = (v[max(v)] for k, v in sorted(self._versions.copy().items()) if k[1] == kind)
        return [d for d in newest if not d.deleted]

    def _tail(self) -> None:
        """Read until stopped. While Kafka is away it is asked again every second."""
        while not self._stop.is_set():
            try:
                self._read()
            except Exception as e:
                log.warning("definitions can't be read; trying again", error=f"{type(e).__name__}: {e}")
                self._stop.wait(1.0)

    def _read(self) -> None:
        name = self._settings.service or "rondo"
        consumer = kafka.reader(self._settings.kafka, f"{name}-definitions", fetch_wait_max_ms=_WAIT_MS)
        try:
            ends = kafka.assign_from_start(consumer, topics.DEFINITIONS)
            at = dict.fromkeys(ends, 0)
            while not self._stop.is_set():
                if not self._caught_up and all(at[p] >= end for p, end in ends.items()):
                    self._caught_up = True
                message = consumer.poll(0.2)
                if message is None:
                    continue
                if message.error():
                    if kafka.is_eof(message.error()):
                        at[message.partition()] = max(at[message.partition()], message.offset())
                    else:
                        log.warning("definitions can't be read", error=str(message.error()))
                    continue
                at[message.partition()] = message.offset() + 1
                if message.value() is not None:
                    self._take(msgspec.json.decode(message.value(), type=Definition))
        finally:
            consumer.close()

    def _take(self, d: Definition) -> None:
        with self._changed:
            self._versions.setdefault((d.workspace, d.kind, d.id), {})[d.version] = d
            self._changed.notify_all()
        for listener in self._listeners:
            listener(d)

    # -- writing

    async def put(
        self, workspace: str, kind: str, id: str, body: dict[str, Any], actor: str = "", if_version: int | None = None
    ) -> Definition:
        """Write `body` as the next version, or keep the newest when it is the same body. `if_version`
        is the version the caller has seen (If-Match): another one is Problem 412."""
        return await asyncio.to_thread(self._put, workspace, kind, id, body, actor, False, if_version)

    async def delete(self, workspace: str, kind: str, id: str, actor: str = "") -> Definition:
        """Write a version that says deleted."""
        return await asyncio.to_thread(self._put, workspace, kind, id, {}, actor, True, None)

    def _put(
        self,
        workspace: str,
        kind: str,
        id: str,
        body: dict[str, Any],
        actor: str,
        deleted: bool,
        if_version: int | None,
    ) -> Definition:
        if not self._caught_up:
            raise unavailable("definitions", "They are still being read")
        raw = msgspec.Raw(msgspec.json.encode(body, order="sorted"))
        with self._lock(f"lock:def:{workspace}:{kind}:{id}"):
            versions = self._versions.get((workspace, kind, id), {})
            newest = versions[max(versions)] if versions else None
            if if_version is not None and (newest.version if newest else 0) != if_version:
                raise Problem(412, "version-changed", "It has been changed meanwhile", "Read it again, then write")
            if newest and newest.deleted == deleted and bytes(newest.body) == bytes(raw):
                d = newest
            else:
                version = (newest.version if newest else 0) + 1
                now = iso(self._clock.now())
                d = Definition(workspace, kind, id, version, raw, now, actor, deleted)
                self._write(d)
        if kind in ACTIVATED:
            # also for an unchanged body: repairs a put that died between the two writes
            self._activate(d)
        return d

    def _write(self, d: Definition) -> None:
        if self._producer is None:
            self._producer = kafka.producer(self._settings.kafka, f"{self._settings.service or 'rondo'}-definitions")
        errors: list[Any] = []
        self._producer.produce(
            topics.DEFINITIONS,
            key=f"{d.workspace}:{d.kind}:{d.id}:{d.version}",
            value=msgspec.json.encode(d),
            timestamp=self._clock.now(),
            on_delivery=lambda e, _: errors.append(e) if e else None,
        )
        if self._producer.flush(_CONFIRM_S) or errors:
            raise unavailable("Kafka", "The definition was not acknowledged")
        deadline = time.monotonic() + _CONFIRM_S
        with self._changed:
            while d.version not in self._versions.get((d.workspace, d.kind, d.id), {}):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise unavailable("definitions", "The definition is written but not yet visible; ask again")

    def _activate(self, d: Definition) -> None:
        if self._commands is None:
            self._commands = CommandWriter(self._settings, self._clock)
        cause = f"{d.workspace}:{d.kind}:{d.id}:{d.version}"
        command = Command(
            kind="definition.activated",
            workspace=d.workspace,
            id=ids.derived(cause, "activated"),
            at=d.created_at,
            actor=d.created_by,
            definition=d,
        )
        asyncio.run(self._commands.to_all(command))

    def _lock(self, name: str) -> _Lock:
        if self._redis is None:
            self._redis = redis_client.connect(self._settings.redis)
        return _Lock(self._redis, name)


class _Lock:
    """One writer of one definition at a time, over all instances. Only order rests on it, no data."""

    def __init__(self, redis: Any, name: str):
        self._redis, self._name = redis, name

    def __enter__(self) -> None:
        deadline = time.monotonic() + _CONFIRM_S
        while not self._redis.set(self._name, "1", nx=True, px=_LOCK_MS):
            if time.monotonic() > deadline:
                raise Problem(409, "being-changed", "Somebody else is changing it", "Try again in a moment")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._redis.delete(self._name)


def bodies(definitions: list[Definition]) -> Iterator[dict[str, Any]]:
    """Definitions as API answers: their body with id and version."""
    for d in definitions:
        yield {**msgspec.json.decode(d.body), "id": d.id, "version": d.version, "created_at": d.created_at}
