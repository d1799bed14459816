"""Where the cases run: servers of our own, the provider, and the whole system as `rondo up` starts it on them.

One world serves most cases, each with a workspace of its own in it; a case that breaks its world gets it
replaced for the next one.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from kafka import TopicPartition

from rondo_cli import broker
from rondo_cli.local import plan
from rondo_common.streams import marks
from tests.stress import servers
from tests.support.chaos_monkey import Monkey
from tests.support.servers import Running
from tests.support.spine_api import Api, until
from tests.support.stack import Stack

SETTINGS = {
    "RONDO_SECRET": "one secret of the stress runs",
    "RONDO_TELEGRAM_SECRET": "telegram-webhook",
    # waits short enough for a case of a minute; their order stays as shipped
    "RONDO_DELIVERY_TIMEOUT": "3",
    "RONDO_DELIVERY_RETRIES": "1,2,4,8,16,16,16,16",
    "RONDO_DELIVERY_RECONCILE": "1,2,4",
    "RONDO_RECONCILE_WINDOW_S": "8",
}
SCALE = {"profiles": 2, "delivery-email": 2}


class External(Stack):
    """A stack on servers that are not its own."""

    def start(self) -> None:
        if "--external" not in self.arguments:
            self.arguments.append("--external")
        super().start()


class World:
    """Everything that runs. `kafka` is the broker's process, `side` its listener behind a port of ours."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        scale: Mapping[str, int] | None = None,
        only: tuple[str, ...] = (),
        start_kafka: Callable[[Path], tuple[Running, Any]] = servers.start_kafka,
        env: Mapping[str, str] | None = None,
    ):
        folder.mkdir(parents=True)
        (folder / "marks").mkdir()
        (folder / "redis").mkdir()
        (folder / "kafka").mkdir()
        self.folder, self.seed = folder, seed
        self._spaces = 0
        self._open: list[Callable[[], None]] = []
        try:
            self.kafka, self.broker = start_kafka(folder / "kafka")
            self._open.append(self.kafka.stop)
            self.redis = servers.Redis(folder / "redis")
            self._open.append(self.redis.server.stop)
            self.provider = servers.Provider(folder / "provider")
            self._open.append(self.provider.stop)
            settings = {
                **SETTINGS,
                **self.provider.environment(),
                "RONDO_KAFKA": self.bootstrap,
                "RONDO_REDIS": self.redis.url,
                marks.VARIABLE: str(folder / "marks"),
                **(env or {}),
            }
            self._scale = SCALE if scale is None else scale
            self.stack = External(folder / "stack", self._scale, None, settings, only)
            self._open.append(self.stack.stop)
        except BaseException:
            self.close()
            raise
        self.monkey = Monkey(self.stack, folder / "marks", seed)

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    def space(self, tag: str) -> Api:
        """A new workspace; the API as its owner."""
        self._spaces += 1
        name = f"{tag}-{self._spaces}"
        with Api(self.stack) as root:
            made = root.post("/v1/workspaces", {"id": name})
        api = Api(self.stack, made["keys"]["write"], made["keys"]["admin"])
        api.workspace = name
        # a new key is known to every door once it has read it
        until(lambda: _open(lambda: api.door.post("/v1/batch", json={"batch": []})), "the write key")
        until(lambda: _open(lambda: api.call("GET", "/v1/lag")), "the admin key")
        return api

    def owner(self) -> Api:
        """The API as the owner of the workspace made at the start."""
        api = Api(self.stack)
        api.workspace = "demo"
        return api

    def ready(self, timeout_s: float = 60.0) -> float:
        """Wait until every process is ready; the seconds that took."""
        begun = time.monotonic()
        self.stack.wait_ready(timeout_s)
        return time.monotonic() - begun

    def told(self, name: str) -> dict[str, str]:
        """The environment of a service's first instance. From the plan: a service that was forked has its
        parent's in /proc."""
        options = plan.Options(self.stack.folder, self._scale, external=True, any_ports=True)
        return next(i.env for i in plan.make(options, self.stack.env).instances if i.process.name == name)

    def ends(self, *topics: str) -> dict[TopicPartition, int]:
        """The committed ends of topics now."""
        with broker.admin(self.bootstrap) as client:
            return broker.ends(client, broker.all_partitions(client, topics))

    def kill(self, name: str, slot: int = 0) -> None:
        """kill -9, inside an open batch where it has one."""
        if slot or not self.monkey.kill(name, 1.0):
            self.stack.kill(name, slot)

    def answers(self, name: str, timeout_s: float = 60.0) -> float:
        """Wait until a process is ready by its own word; the seconds that took."""
        begun = time.monotonic()
        until(
            lambda: _open(lambda: httpx.get(f"{self.stack.http(name)}/readyz", timeout=2.0, trust_env=False)),
            f"{name} ready",
            timeout_s,
            0.05,
        )
        return time.monotonic() - begun

    def hold(self, name: str) -> None:
        assert self.stack.rondo("stop", name).returncode == 0

    def release(self, name: str) -> None:
        assert self.stack.rondo("start", name).returncode == 0

    def close(self) -> None:
        for end in reversed(self._open):
            with suppress(Exception):
                end()
        self._open = []


def _open(call: Callable[[], httpx.Response]) -> bool:
    with suppress(httpx.HTTPError):
        return call().status_code not in (401, 403, 503)
    return False


class Lab:
    """Gives each case its world."""

    def __init__(self, seed: int, keep: bool = False):
        self.seed, self._keep = seed, keep
        self.folder = Path(tempfile.mkdtemp(prefix="rondo-stress-"))
        self._made = 0
        self._shared: World | None = None

    def world(self) -> World:
        """The shared one, well and drained."""
        if self._shared is None:
            self._shared = self.fresh()
        self._shared.provider.behave()
        self._shared.ready(90)
        return self._shared

    def fresh(self, **options: Any) -> World:
        """One of the case's own: close it at the end."""
        self._made += 1
        return World(self.folder / f"world{self._made}", self.seed, **options)

    def give_up(self) -> None:
        """The shared world is not to be trusted any more, or not needed."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def close(self) -> None:
        self.give_up()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"logs and data stay in {self.folder}", flush=True)


def pid_of_group(running: Running) -> int:
    """The broker's or Redis's own process id."""
    assert running.child.poll() is None, f"{running.name} does not run"
    os.kill(running.child.pid, 0)
    return running.child.pid
