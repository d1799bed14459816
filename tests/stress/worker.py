"""A further process of a service, beside those of the supervisor: told what a running one is told, but for
what a case changes."""

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from rondo_cli.local import ports, process
from tests.stress.lab import World
from tests.stress.takeover import FEED


class Worker:
    """One more instance of `name` in a slot of its own. A context manager."""

    def __init__(self, world: World, name: str, slot: str, **changes: str):
        http, grpc = ports.free_ports(2)
        data = world.folder / f"{name}.{slot}"
        data.mkdir(exist_ok=True)
        own = {"RONDO_SLOT": slot, "RONDO_HTTP_PORT": str(http), "RONDO_GRPC_PORT": str(grpc)}
        self._env = {**world.told(name), **own, "RONDO_DATA_DIR": str(data), **changes}
        self._name, self.log = name, data / "log"
        self.http = f"http://127.0.0.1:{http}"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Worker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, changes: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "services", self._name]
        self._child = process.spawn(command, self.log, {**self._env, **(changes or {})}, Path(__file__).parents[2])

    def stop(self) -> None:
        if self._child is not None:
            process.stop(self._child, 10.0)

    def ended(self, timeout_s: float) -> int | None:
        """Its exit code, once it has ended by itself."""
        assert self._child
        with suppress(subprocess.TimeoutExpired):
            return self._child.wait(timeout_s)
        return None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until it has its share of the partitions."""
        assert self._name in FEED
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.http}/readyz", timeout=2.0, trust_env=False).status_code == 200:
                    return
            assert self.running, self.words()
            time.sleep(0.1)
        raise AssertionError(f"{self._name} is not ready: {self.words()}")

    def words(self, size: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""
