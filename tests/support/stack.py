"""The whole system for end-to-end tests: `rondo up` as shipped, in a temporary folder.

    stack                     one for the test session; leave it as you found it
    fresh_stack(scale={"profiles": 2}, test_clock="2026-12-01T09:00:00Z", env={...}, only=())   one of your own

Both give a Stack. It is a child of the test process and ends with it, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rondo_cli.local import process
from tests.support.otlp import Collector
from tests.support.slowness import PATIENT

READY_S = 150.0
UNHURRIED = {"RONDO_DELIVERY_TIMEOUT": "60"}
"""A machine that stands still for a while must not make a provider's answer too late: its outcome would be unknown."""


class Stack:
    """A running system. `state` is .rondo/state.json as it is now."""

    collector: Collector
    """Where the session's system sends its spans."""

    def __init__(
        self,
        folder: Path,
        scale: Mapping[str, int] | None = None,
        test_clock: str | None = None,
        env: Mapping[str, str] | None = None,
        only: tuple[str, ...] = (),
    ):
        self.folder = folder / ".rondo"
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_") or k == "RONDO_CACHE"}
        path = os.pathsep.join(p for p in sys.path if p)
        self.env = {**mine, "RONDO_DIR": str(self.folder), "PYTHONPATH": path, **(env or {})}
        self.arguments = ["--any-ports", *(f"--scale={name}={n}" for name, n in (scale or {}).items())]
        self.arguments += [f"--only={name}" for name in only]
        if test_clock:
            self.arguments.append(f"--test-clock={test_clock}")
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """`rondo up`, and wait until it is ready."""
        out = self.folder / "up.out"
        command = [sys.executable, "-m", "rondo_cli", "up", *self.arguments]
        self._child = process.spawn(command, out, self.env)
        self.wait(lambda s: s["status"] == "ready", READY_S)

    def wait(self, check: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until the state passes `check`; AssertionError with the supervisor's words otherwise."""
        deadline = time.monotonic() + PATIENT * timeout_s
        while time.monotonic() < deadline:
            assert self._child
            with suppress(FileNotFoundError):
                found = self.state
                if (found["supervisor"] or {}).get("pid") == self._child.pid and check(found):
                    return found
            if self._child.poll() is not None:
                break
            time.sleep(0.1)
        words = (self.folder / "up.out").read_text(errors="replace")[-4000:]
        self.stop()
        raise AssertionError(f"the stack is not as it should be:\n{words}")

    @property
    def state(self) -> dict[str, Any]:
        """The state file as it is now."""
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found

    @property
    def kafka(self) -> str:
        """Bootstrap string."""
        return str(self.state["kafka"])

    @property
    def redis(self) -> str:
        """URL."""
        return str(self.state["redis"])

    @property
    def write_key(self) -> str:
        """For ingestion, as the user of Basic auth."""
        return str(self.state["keys"]["write"])

    @property
    def admin_key(self) -> str:
        """For the gateway, as Bearer."""
        return str(self.state["keys"]["admin"])

    def http(self, service: str) -> str:
        """Base URL of a service (or of `capture`)."""
        state = self.state
        return str((state["capture"] if service == "capture" else state["services"][service])["http"])

    def grpc(self, service: str) -> str:
        """host:port."""
        return str(self.state["services"][service]["grpc"])

    def get(self, service: str, path: str) -> Any:
        """GET with the admin key; the JSON."""
        call = urllib.request.Request(self.http(service) + path, headers={"Authorization": f"Bearer {self.admin_key}"})
        with urllib.request.urlopen(call, timeout=10) as answer:
            return json.loads(answer.read())

    def rondo(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a rondo command against this stack."""
        command = [sys.executable, "-m", "rondo_cli", *arguments]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=PATIENT * timeout_s, check=False
        )

    def drain(self, timeout_s: float = 60.0) -> None:
        """Wait until everything accepted so far is processed; AssertionError with who is behind."""
        answer = self.rondo("lag", "--wait", "--timeout", str(PATIENT * timeout_s), timeout_s=timeout_s + 60)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def advance(self, to: str, timeout_s: float = 120.0) -> None:
        """Move the test clock to an RFC 3339 instant and wait until all that is due by then is done."""
        body = json.dumps({"frozen_time": to}).encode()
        headers = {"Authorization": f"Bearer {self.admin_key}", "content-type": "application/json"}
        call = urllib.request.Request(self.http("gateway") + "/v1/test-clock/advance", body, headers, method="POST")
        with urllib.request.urlopen(call, timeout=30) as answer:
            assert answer.status == 202
        deadline = time.monotonic() + PATIENT * timeout_s
        while self.get("gateway", "/v1/test-clock")["status"] != "ready":
            assert time.monotonic() < deadline, f"the clock did not arrive at {to}"
            time.sleep(0.1)

    def pid(self, service: str, slot: int = 0) -> int | None:
        """Process id of an instance, None while it is being started again."""
        state = self.state
        entry = state["capture"] if service == "capture" else state["services"].get(service)
        return int(p) if (p := entry["instances"][slot]["pid"]) else None

    def kill(self, service: str, slot: int = 0) -> int:
        """kill -9 an instance; its pid. The supervisor starts it again."""
        deadline = time.monotonic() + PATIENT * 30
        while (pid := self.pid(service, slot)) is None:
            assert time.monotonic() < deadline, f"{service} does not come back"
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until everything is ready (again)."""
        self.wait(lambda s: s["status"] == "ready", timeout_s)

    def stop(self) -> None:
        """End it in order."""
        if self._child is not None:
            process.stop(self._child, 40.0)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The session's own running system. Of its traces a thousandth is kept, in `stack.collector`."""
    collector = Collector()
    tracing = {"RONDO_OTLP_ENDPOINT": collector.url, "RONDO_TRACE_RATIO": "0.001"}
    made = Stack(tmp_path_factory.mktemp("stack"), env=tracing | UNHURRIED)
    made.collector = collector
    yield made
    made.stop()
    collector.close()


@pytest.fixture
def fresh_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Factory of systems of a test's own; they end with the test."""
    made: list[Stack] = []

    def make(**options: Any) -> Stack:
        options["env"] = UNHURRIED | (options.get("env") or {})
        made.append(Stack(tmp_path / f"stack{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()
