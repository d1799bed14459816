"""Real servers for tests: one Kafka broker and one Redis-protocol server for the whole test session.

Both are children of the test process, on free ports of 127.0.0.1, in a temporary folder; they end
with it, however it ends. Fixtures (tests/conftest.py re-exports them):

    kafka          bootstrap string of the broker
    redis_url      URL of the server; every test shares it: use your own key prefix, or `redis_flushed`
    redis_flushed  the same URL after FLUSHALL
    topics         factory: topics("name", partitions=8, cleanup="compact", **config) makes a topic with
                   a unique name and returns the name; topics.catalogue() makes all of rondo_common.topics
    free_port      factory of ports nobody listens on
"""

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rondo_cli import broker
from rondo_cli.local import kafka as local_kafka
from rondo_cli.local import ports, process
from rondo_cli.local import redis as local_redis
from tests.support.slowness import PATIENT

START_S = 60.0


class Running:
    """A server that was started: its child process, its port, and its log for when it fails."""

    def __init__(self, name: str, command: list[str], port: int, log: Path, ready: Callable[[int], bool]):
        self.name, self.command, self.port, self.log, self._ready = name, command, port, log, ready
        self.child: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it (again) on its port and wait until it answers."""
        ports.check_free(self.port, self.name)
        self.child = process.spawn(self.command, self.log)
        deadline = time.monotonic() + PATIENT * START_S
        while not (ports.held_by(self.port, {self.child.pid}) and self._ready(self.port)):
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        process.kill_group(self.child.pid)
        self.child.wait()

    def stop(self) -> None:
        """End it in order."""
        process.stop(self.child)


def start_kafka(folder: Path) -> tuple[Running, local_kafka.Broker]:
    """A broker of its own in `folder`, for a test that kills it; stop() it."""
    port, controller = ports.free_ports(2)
    where = local_kafka.Broker(folder, port, controller)
    where.prepare()
    return Running("kafka", where.command(), port, folder / "kafka.out", local_kafka.ready), where


def start_redis(folder: Path) -> tuple[Running, local_redis.Server]:
    """A Redis-protocol server of its own in `folder`, for a test that kills it; stop() it."""
    where = local_redis.Server(folder, ports.free_ports(1)[0])
    where.prepare()
    return Running("redis", where.command(), where.port, folder / "redis.out", local_redis.ready), where


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The session's broker as a process, for its port and log. Don't stop it: it is everybody's."""
    server, _ = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka(kafka_server: Running) -> str:
    """Bootstrap string of the session's broker."""
    return f"127.0.0.1:{kafka_server.port}"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the session's Redis-protocol server."""
    server, where = start_redis(tmp_path_factory.mktemp("redis"))
    yield where.url
    server.stop()


@pytest.fixture
def redis_flushed(redis_url: str) -> str:
    """The session's server, emptied for this test."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


class Topics:
    """Makes topics on the session's broker."""

    def __init__(self, bootstrap: str):
        self._bootstrap = bootstrap

    def __call__(
        self, name: str, partitions: int = 8, cleanup: str = "delete", unique: bool = True, **config: str
    ) -> str:
        """Make one; its full name comes back. Config names with _ for dots."""
        full = f"{name}.{uuid.uuid4().hex[:8]}" if unique else name
        settings = {"cleanup.policy": cleanup, **{k.replace("_", "."): v for k, v in config.items()}}
        broker.create_topics(self._bootstrap, {full: (partitions, 1, settings)})
        return full

    def catalogue(self, *names: str, member_partitions: int = 8) -> list[str]:
        """Make the topics of the catalogue under their own names: all, or the named ones."""
        from rondo_common.catalogue import TOPICS

        wanted = {n: TOPICS[n] for n in (names or TOPICS)}
        broker.create_topics(
            self._bootstrap, {n: (t.count(member_partitions), 1, t.config(True)) for n, t in wanted.items()}
        )
        return list(wanted)


@pytest.fixture(scope="session")
def topics(kafka: str) -> Topics:
    """Factory of topics on the session's broker."""
    return Topics(kafka)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Factory of free ports; one session never gets the same twice."""
    given: set[int] = set()

    def give() -> int:
        port = ports.free_ports(1, avoid=given)[0]
        given.add(port)
        return port

    return give
