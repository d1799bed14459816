"""What the delivery bench sets on the table: a broker, a Redis, members with a template, and sends ready on their topic."""

import time
import uuid
from typing import Any

import msgspec
import redis

from rondo_cli import broker
from rondo_cli.local import ports
from rondo_common import kafka as clients
from rondo_common import topics
from rondo_common.catalogue import TOPICS
from rondo_common.clock import iso
from rondo_common.partition import PARTITIONS
from rondo_common.records import Command, ConsentEntry, Contact, Definition, Profile, Send
from rondo_common.streams.commit import produce
from tests.bench.frame import World
from tests.bench.sink import Sink
from tests.support.servers import Running, start_kafka, start_redis
from tests.support.service_process import ServiceProcess

WORKSPACE = "bench"
BARE = ("bench.bare.states", "bench.bare.outcomes")
"""Where the bare loop writes."""

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
        wanted = {n: (t.count(PARTITIONS), 1, t.config(True)) for n, t in TOPICS.items()}
        broker.create_topics(self.bootstrap, wanted | dict.fromkeys(BARE, (PARTITIONS, 1, {})))
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
    def redis_url(self) -> str:
        return self._where.url

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
