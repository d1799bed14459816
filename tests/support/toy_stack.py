"""`rondo up` with toy services: the real supervisor, Kafka and Redis, and every service a toy_service.

Run as `python toy_stack.py ORDERS <rondo arguments>`; ToyStack does that and waits.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.slowness import PATIENT

SERVICE = Path(__file__).with_name("toy_service.py")


class ToyStack:
    """A stack under test in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.orders = folder / "orders"
        self.orders.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RONDO_DIR": str(folder / ".rondo")}

    def order(self, name: str, what: str, text: str = "") -> None:
        (self.orders / f"{name}.{what}").write_text(text)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `rondo up` and don't wait."""
        command = [sys.executable, __file__, str(self.orders), "up", "--any-ports", *arguments]
        self.process = subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return self.process

    def up(self, *arguments: str, timeout_s: float = 90.0) -> dict[str, Any]:
        """Start and wait until ready; the state."""
        self.begin(*arguments)
        return self.wait("ready", timeout_s)

    def wait(self, status: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for a status; AssertionError with the output when the process ends before."""
        assert self.process
        deadline = time.monotonic() + PATIENT * timeout_s
        while time.monotonic() < deadline:
            found = self.state()
            if found and found["status"] == status:
                return found
            if self.process.poll() is not None and status not in ("stopped", "failed"):
                raise AssertionError(f"rondo up ended: {self.process.stdout.read() if self.process.stdout else ''}")
            time.sleep(0.05)
        raise AssertionError(f"not {status} in time: {json.dumps(self.state(), indent=1)}")

    def state(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / ".rondo" / "state.json").read_text())
        except FileNotFoundError:
            return None
        return found

    def rondo(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run another rondo command beside it."""
        command = [sys.executable, "-m", "rondo_cli", *arguments]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=PATIENT * timeout_s, check=False
        )

    def pids(self) -> set[int]:
        """Every process the state names."""
        return pids_of(self.state() or {})

    def end(self) -> int:
        """SIGTERM and wait."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode


def pids_of(state: dict[str, Any]) -> set[int]:
    """Every process a state names, but the supervisor."""
    found = {s["pid"] for s in state.get("servers", {}).values()}
    for service in [*state["services"].values(), state["capture"]]:
        found |= {i["pid"] for i in service.get("instances", ())}
    return {pid for pid in found if pid}


def _main() -> int:
    orders = sys.argv.pop(1)
    from rondo_cli import main
    from rondo_cli.local import plan

    plan.command = lambda process: ([sys.executable, "-S", str(SERVICE), orders], Path(orders))
    return main.run()


if __name__ == "__main__":
    sys.exit(_main())
