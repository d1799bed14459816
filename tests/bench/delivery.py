"""The e-mail worker alone: sends lie ready on its topic, an SMTP sink takes what it makes of them.

A broker and a Redis of the bench's own, the worker as shipped, nothing else. Members, their profiles and
the template are folded first; then the worker is stopped, the sends are written, and it is started again,
so that nobody else uses a core while it works. Counted from the first mail to the last recorded outcome.
Beside it: prebuilt bytes of the same size pushed through as many connections to the same sink.
"""

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import redis

from rondo_cli import broker
from rondo_cli.local import ports
from rondo_common import kafka as clients
from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.partition import PARTITIONS
from rondo_common.records import Command, ConsentEntry, Contact, Definition, Profile, Send
from rondo_common.streams.commit import produce
from tests.bench.frame import TICKS, Figure, Usage, World, hottest, metric
from tests.bench.sink import ROOT, Sink
from tests.support.servers import Running, start_kafka, start_redis
from tests.support.service_process import ServiceProcess

NAME = "delivery"
TITLE = "the e-mail worker alone: personalised mails from its topic to an SMTP sink"
MAILS, QUICK = 50_000, 1_000
GOAL_CPU = 0.03
CONNECTIONS = 16
WORKSPACE = "bench"
PATIENCE_S = 120.0

_WORDS = "New records came in this week, and we thought of you. "
BODY = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@shop.example>",
        "subject": "{{ member.firstName | default: 'you' }}, spring is here",
        "html": "<!doctype html><html><body><h1>Hi {{ member.firstName | default: 'you' | capitalize }}</h1>"
        f"<p>{_WORDS * 8}</p>"
        "<p>{% if member.plan == 'gold' %}As a gold member you go first.{% else %}Become a gold member.{% endif %} "
        "Our shop in {{ member.city }} is open.</p>"
        "<p><a href='https://shop.example/new?city={{ member.city | url_encode }}'>Have a look</a></p>"
        "<p><a href='{{ links.unsubscribe }}'>Unsubscribe</a></p></body></html>",
    },
}
"""A name, two traits, an if, a tracked link, an unsubscribe link, an open pixel; a text part made of it."""


class Desk:
    """Kafka, Redis and the worker's inputs."""

    def __init__(self, world: World):
        self._kafka, _ = start_kafka(world.folder / "kafka")
        self._redis, self._where = start_redis(world.folder / "redis")
        self.bootstrap = f"127.0.0.1:{self._kafka.port}"
        wanted = {n: (t.count(PARTITIONS), 1, t.config(True)) for n, t in topics.TOPICS.items()}
        broker.create_topics(self.bootstrap, wanted)
        self._producer = clients.producer(self.bootstrap, "bench", linger_ms=20)

    def stop(self) -> None:
        self._kafka.stop()
        self._redis.stop()

    def worker(self, world: World, sink: Sink) -> ServiceProcess:
        env = {
            "RONDO_KAFKA": self.bootstrap,
            "RONDO_REDIS": self._where.url,
            "RONDO_SMTP_URL": sink.url,
            "RONDO_SLOT": "0",
            "RONDO_SECRET": "bench",
        }
        return ServiceProcess("delivery-email", env, world.folder, lambda: ports.free_ports(1)[0])

    @property
    def pids(self) -> dict[str, int]:
        servers: dict[str, Running] = {"kafka": self._kafka, "redis": self._redis}
        return {name: server.child.pid for name, server in servers.items()}

    def redis_commands(self) -> dict[str, int]:
        """Calls by command since the server started, those inside scripts too."""
        with redis.Redis.from_url(self._where.url) as client:
            return {k.removeprefix("cmdstat_"): v["calls"] for k, v in client.info("commandstats").items()}

    # the inputs

    def put(self, topic: str, key: str, value: Any, partition: int = -1) -> None:
        id = str(uuid.uuid4())
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_source", b"/rondo/bench"),
            ("content-type", b"application/json"),
            ("ce_type", b"bench"),
            ("ce_id", id.encode()),
            ("ce_time", b"2026-01-01T00:00:00Z"),
            ("depth", b"4"),
            ("traceparent", b"00-" + id.replace("-", "").encode() + b"-00f067aa0ba902b7-01"),
        ]
        produce(
            self._producer,
            topic=topic,
            key=key,
            value=msgspec.json.encode(value),
            partition=partition,
            headers=headers,
        )

    def flush(self) -> None:
        if self._producer.flush(60):
            raise RuntimeError("the broker did not take the records")

    def members(self, count: int) -> None:
        body = msgspec.Raw(msgspec.json.encode(BODY))
        template = Definition(WORKSPACE, "template", "spring", 1, body, iso(0))
        for p in range(PARTITIONS):
            made = Command("definition.activated", WORKSPACE, uuid.uuid4().hex, iso(0), definition=template)
            self.put(topics.COMMANDS, f"{WORKSPACE}:template", made, p)
        granted = [ConsentEntry("email", "*", "granted", iso(0), "e")]
        for n in range(count):
            member, key = _member(n), f"{WORKSPACE}:{_member(n)}"
            self.put(
                topics.CONTACTS, key, Contact(WORKSPACE, member, email=address(n), consents=granted, locale="en-GB")
            )
            traits = {
                "firstName": f"name{n}",
                "city": ("Paris", "Rome", "São Paulo")[n % 3],
                "plan": ("gold", "basic")[n % 2],
            }
            raw = {k: msgspec.Raw(msgspec.json.encode(v)) for k, v in traits.items()}
            self.put(topics.PROFILES, key, Profile(WORKSPACE, member, traits=raw))
        self.flush()

    def sends(self, count: int) -> None:
        now = time.time_ns() // 1_000_000
        for n in range(count):
            member = _member(n)
            send = Send(
                workspace=WORKSPACE,
                touch_id=touch(n),
                decision_id=str(uuid.uuid4()),
                attempt=1,
                run_id="0b1c1d2e-1111-5222-8333-444455556667",
                campaign="spring",
                version=1,
                step="main",
                member_id=member,
                channel="email",
                lane="bulk",
                class_="marketing",
                topic="offers",
                not_before=iso(now),
                send_by=iso(now + 600_000),
                template="spring",
                template_version=1,
            )
            self.put(topics.sends("email", "bulk"), f"{WORKSPACE}:{member}", send)
        self.flush()


def address(n: int) -> str:
    return f"m{n}@example.com"


def touch(n: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"touch:{n}"))


def _member(n: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"member:{n}"))


def _metrics(service: ServiceProcess, *names: str) -> list[float]:
    return [metric(f"{service.http}/metrics", name) for name in names]


def _until(true: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not come to pass: {what}")
        time.sleep(0.05)


def run(world: World) -> list[Figure]:
    """One run on fresh servers."""
    mails = world.size(MAILS, QUICK)
    desk = Desk(world)
    try:
        with Sink() as sink:
            desk.members(mails)
            service = desk.worker(world, sink)
            with service:
                folded = PARTITIONS + 2 * mails
                _until(lambda: _metrics(service, "rondo_stream_records_total")[0] >= folded, "members are folded")
            desk.sends(mails)
            with service:
                measured = measure(desk, service, sink, mails)
            sink.reset()
            raw = _raw(sink, mails, round(measured["bytes"] / mails))
            return figures(measured, raw, mails)
    finally:
        desk.stop()


def _threads(pid: int) -> dict[str, float]:
    """CPU seconds of a process by its threads: Kafka's client, the main one, and others by their number."""
    found: dict[str, float] = {}
    for place in sorted(Path(f"/proc/{pid}/task").glob("*"), key=lambda p: int(p.name)):
        try:
            name = (place / "comm").read_text().strip()
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        who = "librdkafka" if name.startswith("rdk:") else "main" if int(place.name) == pid else place.name
        found[who] = found.get(who, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


def measure(desk: Desk, service: ServiceProcess, sink: Sink, mails: int) -> dict[str, Any]:
    """From the first mail to the last outcome. RuntimeError when a mail is missing or came twice."""
    pids = {**desk.pids, "worker": service.pid, "sink": sink.pid}
    _until(lambda: sink.stats()["messages"] > 0, "the first mail")
    before, calls = Usage.of_pids(**pids), desk.redis_commands()
    begun, threads = sink.stats()["messages"], _threads(service.pid)
    transactions = _metrics(service, "rondo_stream_transactions_total")[0]
    lines = hottest(service.pid, 3) if PROFILE else []
    outcome = "rondo_stream_emitted_total"
    _until(lambda: sink.stats()["messages"] >= mails, "all mails")
    _until(lambda: _metrics(service, outcome)[0] >= mails, "all outcomes")
    after, seen, done = Usage.of_pids(**pids), sink.stats(), _threads(service.pid)
    got = Counter(sink.message_ids())
    if got != Counter(touch(n) for n in range(mails)):
        raise RuntimeError(f"{seen['messages']} mails of {len(got)} touches, not one of each of {mails}")
    counted = mails - begun
    late = desk.redis_commands()
    return {
        "bytes": seen["bytes"],
        "rate": counted / (seen["last"] - seen["first"]),
        "cpu": {name: s / counted * 1e6 for name, s in (after - before).items()},
        "threads": {name: (done[name] - threads.get(name, 0.0)) / counted * 1e6 for name in done},
        "rss": after.rss["worker"],
        "transactions": _metrics(service, "rondo_stream_transactions_total")[0] - transactions,
        "redis": {c: (late[c] - calls.get(c, 0)) / counted for c in late},
        "hottest": lines,
    }


PROFILE = False
"""True when run by hand with --profile: prints the worker's hottest lines."""


def _raw(sink: Sink, mails: int, size: int) -> Mapping[str, float]:
    script = ROOT / "tests/bench/baselines/smtp_raw.py"
    command = [sys.executable, str(script), sink.address, str(mails), str(CONNECTIONS), str(size)]
    found: Mapping[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return found


def figures(m: Mapping[str, Any], raw: Mapping[str, float], mails: int) -> list[Figure]:
    cpu = m["cpu"]
    details: dict[str, float | str] = {
        **{f"CPU µs {name} a mail": round(us, 1) for name, us in cpu.items()},
        "transactions": m["transactions"],
        "mails a transaction": round(mails / max(1, m["transactions"]), 1),
        "bytes a mail": round(m["bytes"] / mails),
        "RSS MiB worker": round(m["rss"]),
    }
    details |= {f"Redis {c} a mail": round(n, 3) for c, n in m["redis"].items() if n > 0.02}
    for number, (name, us) in enumerate(sorted(m["threads"].items(), key=lambda kv: -kv[1])):
        if us >= 1:
            name = name if name in ("main", "librdkafka") else f"thread {number}"
            details[f"CPU µs {name} a mail"] = round(us, 1)
    for at, line in enumerate(m["hottest"]):
        details[f"hot {at:02d}"] = line
    pushed = raw["cpu_s"] / raw["messages"] * 1000
    return [
        Figure(
            "CPU of the worker",
            cpu["worker"] / 1000,
            "CPU s/1k",
            False,
            pushed,
            "prebuilt bytes pushed",
            GOAL_CPU,
            details,
        ),
        Figure("mails", m["rate"], "mails/s", True, raw["per_s"], "prebuilt bytes pushed"),
    ]
