"""A broker and a Redis that the cases may stop, kill, starve and restart, beside a stack that uses them."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from rondo_cli.local import kafka as local_kafka
from rondo_cli.local import ports, process
from rondo_cli.local import redis as local_redis
from tests.stress.provider.faults import Plan
from tests.support.servers import Running

CALLS = "calls.jsonl"


@dataclass(frozen=True)
class SideBroker(local_kafka.Broker):
    """A broker with a second listener, which sends its clients on to `way`: a port of ours in between."""

    side: int = 0
    way: int = 0

    def properties(self) -> dict[str, str]:
        mine = super().properties()
        return {
            **mine,
            "listeners": f"{mine['listeners']},SIDE://127.0.0.1:{self.side}",
            "advertised.listeners": f"{mine['advertised.listeners']},SIDE://127.0.0.1:{self.way}",
            "listener.security.protocol.map": f"{mine['listener.security.protocol.map']},SIDE:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }


def start_kafka(folder: Path) -> tuple[Running, SideBroker]:
    """A broker in `folder`; its `way` is a free port that nobody listens on yet."""
    port, controller, side, way = ports.free_ports(4)
    where = SideBroker(folder, port, controller, side, way)
    where.prepare()

    def ready(at: int) -> bool:
        return local_kafka.ready(at) and ports.listening(side)

    return Running("kafka", where.command(), port, folder / "kafka.out", ready), where


class Redis:
    """The Redis-protocol server, restarted with or without what it held."""

    def __init__(self, folder: Path):
        where = local_redis.Server(folder, ports.free_ports(1)[0])
        where.prepare()
        self.url, self.folder = where.url, folder
        self._plain = where.command()
        self.server = Running("redis", self._plain, where.port, folder / "redis.out", local_redis.ready)

    def client(self) -> "redis.Redis[bytes]":
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def keep(self) -> None:
        """From now on it writes an append-only file, each second, and starts again from it."""
        with self.client() as client:
            client.config_set("appendonly", "yes")
            deadline = time.monotonic() + 60
            while client.info("persistence")["aof_rewrite_in_progress"]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        self.server.command = [*self._plain, "--appendonly", "yes"]

    def forget(self) -> None:
        """Back to a server that keeps nothing."""
        self.server.command = self._plain
        with suppress(redis.RedisError), self.client() as client:
            client.config_set("appendonly", "no")

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


class Provider:
    """The provider's process, its behaviour, and its log."""

    LATE_S = 5.0

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / CALLS
        command = [sys.executable, "-m", "tests.stress.provider", str(folder), str(self.LATE_S)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = process.spawn(command, folder / "provider.out", env, Path(__file__).parents[2])
        deadline = time.monotonic() + 30
        while not (folder / "ports.json").exists():
            assert self._child.poll() is None and time.monotonic() < deadline, (folder / "provider.out").read_text()
            time.sleep(0.05)
        at = json.loads((folder / "ports.json").read_text())
        self.http, self.smtp = f"http://127.0.0.1:{at['http']}", f"smtp://127.0.0.1:{at['smtp']}"

    def behave(self, plan: Plan | None = None, *channels: str) -> None:
        """From now on; all channels unless some are named; without a plan it takes everything."""
        plan = plan or Plan()
        body = {k: v for k, v in vars(plan).items() if not k.startswith("_")}
        for channel in channels or ("email", "sms", "messaging"):
            httpx.put(f"{self.http}/plan/{channel}", json=body, trust_env=False).raise_for_status()

    def mark(self) -> int:
        """Where its log ends now."""
        return self.log.stat().st_size

    def environment(self) -> dict[str, str]:
        """What makes a stack use it."""
        return {
            "RONDO_SMTP_URL": self.smtp,
            "RONDO_TWILIO_BASE_URL": self.http,
            "RONDO_TELEGRAM_BASE_URL": self.http,
        }

    def stop(self) -> None:
        process.stop(self._child)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP for as long as the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(v.split()[1] for v in text.splitlines() if v.startswith("VmRSS"))) / 1024


def as_json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
