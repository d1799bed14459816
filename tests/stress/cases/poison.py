"""Records that can't be processed: dead letters, their neighbours, their replay."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer
from kafka.admin import ConfigResource

from rondo_cli import broker
from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress.eye import EVENTS, MEMBER_EVENTS, Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.registry import Outcome, case
from tests.stress.writer import headers_of, writer
from tests.support.spine_api import until

DLQ = f"{EVENTS}.dlq"
POISON = 100
FLOOR_S = 0.25
"""Delays below this are the machine's, not a neighbour's."""


def _begin(lab: Lab, tag: str, n: int, rate: float) -> tuple[World, Any, Eye, Load]:
    world = lab.world()
    api = world.space(tag)
    loads.define(api)
    eye = Eye(world, api, DLQ)
    return world, api, eye, Load(api, tag, n, lab.seed, rate=rate)


@case("12", "100 unreadable records among the others", share=8, least=3_000)
def poison(lab: Lab, n: int) -> Outcome:
    """Each becomes a dead letter with its cause; the rest is done and no lag stays."""
    world, api, eye, load = _begin(lab, "c12", n, n / 10)
    load.start()
    kinds = [b"\x0a\x04\xff\xfe\x00garbage", b'{"workspace":', b"[]", b'{"workspace":7,"type":"track"}']
    with writer(world.bootstrap) as out:
        for i in range(POISON):
            out.put(EVENTS, f"{api.workspace}:poison-{i}", kinds[i % len(kinds)])
            time.sleep(8 / POISON)
    load.wait()
    api.drain(90)
    dead = list(eye.records(DLQ))
    judged, _ = eyes.judge(load, eye)
    reasons = {headers_of(r).get("rondo-dlq-reason") for r in dead}
    judged.must(len(dead) == POISON, f"{len(dead)} dead letters, not {POISON}")
    judged.must(all(headers_of(r).get("rondo-dlq-detail") for r in dead), "a dead letter does not say why")
    judged.figure = f"{len(dead)} dead letters ({', '.join(sorted(map(str, reasons)))})"
    return judged


@case("13", "a handler that always fails for one workspace", share=6, least=2_000)
def sick_workspace(lab: Lab, n: int) -> Outcome:
    """Its records become dead letters; the others' delay stays below twice the calm one."""
    world, api, eye, _ = _begin(lab, "c13", n, 0)
    sick = world.space("c13sick")
    sick_eye = Eye(world, sick, DLQ)
    half = n // 2
    with _Tail(world) as tail:
        calm = Load(api, "c13calm", half, lab.seed, rate=half / 8, batch=10).start().wait()
        api.drain(60)
        calm_s = tail.quantile(calm, 0.99)
        bad = max(10, min(80, n // 50))
        load = Load(api, "c13", n - half, lab.seed, rate=half / 8, batch=10).start()
        with writer(world.bootstrap) as out:
            for i in range(bad):
                key = f"{sick.workspace}:sender-{i % 5}"
                body = {"workspace": sick.workspace, "type": "track", "message_id": f"sick-{i}"}
                body |= {"sender": f"sender-{i % 5}", "timestamp": "yesterday", "received_at": "today", "event": "x"}
                out.put(EVENTS, key, json.dumps(body).encode())
                time.sleep(8 / bad)
        load.wait()
        api.drain(60)
        sick_s = tail.quantile(load, 0.99)
    dead = list(sick_eye.records(DLQ))
    seen = eye.look()
    judged = eyes.events(load, seen)
    judged.n = n
    judged.wrong = [w for w in judged.wrong if not w.startswith("buyers")]  # of both loads together
    judged.must(len(dead) == bad, f"{len(dead)} dead letters, not {bad}")
    judged.must(
        {headers_of(r).get("rondo-dlq-reason") for r in dead} == {"handler_error"}, "other reasons than handler_error"
    )
    judged.must(sick_s < 2 * max(calm_s, FLOOR_S), f"p99 of the others {sick_s:.2f} s, calm {calm_s:.2f} s")
    judged.figure = f"{len(dead)} dead letters; others' p99 {1000 * sick_s:.0f} ms, calm {1000 * calm_s:.0f} ms"
    return judged


class _Tail:
    """Notes when each event's effect becomes visible."""

    def __init__(self, world: World):
        self._seen: dict[str, float] = {}
        self._over = threading.Event()
        ends = world.ends(MEMBER_EVENTS)
        self._consumer = KafkaConsumer(
            bootstrap_servers=world.bootstrap, group_id=None, isolation_level="read_committed", fetch_max_wait_ms=20
        )
        self._consumer.assign(list(ends))
        for tp, end in ends.items():
            self._consumer.seek(tp, end)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.is_set():
            for records in self._consumer.poll(timeout_ms=20).values():
                now = time.monotonic()
                for r in records:
                    if id := json.loads(r.value).get("event_id"):
                        self._seen.setdefault(id, now)

    def quantile(self, load: Load, q: float) -> float:
        """Delay from the 2xx of each event's call to its effect, at least 0."""
        sent = load.answers.when
        found = sorted(max(0.0, self._seen[i] - sent[i]) for i in load.counted() if i in self._seen)
        return found[min(len(found) - 1, int(q * len(found)))]

    def __enter__(self) -> "_Tail":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._consumer.close()


@contextmanager
def _closed(world: World, topic: str) -> Iterator[None]:
    """A topic that takes nothing: every record is too large for it, but not a transaction's marker of 78 bytes
    (Kafka never tries a marker again that was too large: the abort would last until the broker's end)."""
    _configure(world, topic, "128")
    try:
        yield
    finally:
        _configure(world, topic, str(8 * 1024 * 1024))


def _configure(world: World, topic: str, most: str) -> None:
    with broker.admin(world.bootstrap) as client:
        client.alter_configs([ConfigResource("TOPIC", topic, configs={"max.message.bytes": most})])


@case("14", "the dead-letter topic takes nothing", share=3, least=1_000)
def closed_dlq(lab: Lab, n: int) -> Outcome:
    """The worker ends rather than go past a record it can neither apply nor put away; the offset stays. Once
    the topic takes records again, everything is done."""
    world, api, eye, load = _begin(lab, "c14", n, n / 8)
    with _closed(world, DLQ):
        before = _restarts(world)
        with writer(world.bootstrap) as out:
            for i in range(16):
                out.put(EVENTS, f"{api.workspace}:poison-{i}", b"not an event")
        load.start()
        until(lambda: _restarts(world) > before, "a worker that ends", 60, 0.2)
        load.wait()
        dead = list(eye.records(DLQ))
        ended = _restarts(world) - before
    opened = time.monotonic()
    world.ready(90)
    api.drain(120)
    judged, _ = eyes.judge(load, eye)
    judged.takeover = time.monotonic() - opened
    judged.must(not dead, "a dead letter was written to a topic that takes none")
    after = list(eye.records(DLQ))
    judged.must(len(after) == 16, f"{len(after)} dead letters in the end, not 16")
    judged.figure = f"{ended} ends of workers, nothing passed over"
    return judged


def _restarts(world: World) -> int:
    return sum(i["restarts"] for i in world.stack.state["services"]["profiles"]["instances"])


@case("15", "dead letters replayed twice", share=2, least=1_000)
def replayed_twice(lab: Lab, n: int) -> Outcome:
    """As after a replay that died between writing back and removing. What had been applied is not applied
    again, what had not is applied once."""
    world, api, eye, load = _begin(lab, "c15", n, 0)
    drop = world.stack.rondo("dlq", "drop", "events", "--limit", "1000000", "--yes")
    assert drop.returncode == 0, drop.stderr
    load.start().wait()
    api.drain(60)
    logged = list(eye.records(EVENTS))
    letters = [r for r in logged if json.loads(r.value).get("event") in loads.COUNTED][: n // 4]
    fresh = {}
    for r in letters[::2]:
        body = json.loads(r.value)
        body["message_id"] += "-again"
        fresh[body["message_id"]] = (r, json.dumps(body).encode())
    for _ in range(2):
        with writer(world.bootstrap) as out:
            for r in letters[1::2]:
                _bury(out, r, r.value)
            for r, value in fresh.values():
                _bury(out, r, value)
        made = world.stack.rondo("dlq", "replay", "events", "--limit", "1000000", "--yes")
        assert made.returncode == 0, made.stderr
        api.drain(60)
    seen = eye.look()
    judged = eyes.sends(seen)
    counted = load.counted()
    judged.n = 2 * len(letters)
    judged.lost = len((counted | fresh.keys()) - seen.applied.keys())
    judged.repeated += sum(c - 1 for c in seen.applied.values())
    judged.must(not list(eye.records(DLQ)), "dead letters are left")
    judged.figure = f"{len(letters[1::2])} applied before, {len(fresh)} not, each replayed twice"
    return judged


def _bury(out: Any, record: Any, value: bytes) -> None:
    about = {
        "rondo-dlq-reason": b"handler_error",
        "rondo-dlq-detail": b"put here by hand",
        "rondo-dlq-stage": b"profiles",
        "rondo-dlq-topic": EVENTS.encode(),
        "rondo-dlq-partition": b"%d" % record.partition,
        "rondo-dlq-offset": b"%d" % record.offset,
    }
    out.put(DLQ, record.key.decode(), value, {**dict(record.headers or ()), **about})
