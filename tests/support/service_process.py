"""One service as it is shipped, in a process of its own, for integration tests.

with ServiceProcess("rhythm", env, folder, free_port) as service:      # waits until it is ready
    service.http, service.grpc                                          # base URL and address
    service.kill(); service.start()
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from tests.support.slowness import PATIENT

ROOT = Path(__file__).parents[2]
READY_S = 60.0


class ServiceProcess:
    """`name` as in `python -m services <name>`; `env` holds RONDO_* settings without ports."""

    def __init__(self, name: str, env: Mapping[str, str], folder: Path, free_port: Callable[[], int]):
        self.name = name
        self.log = folder / f"{name}.log"
        http, grpc = free_port(), free_port()
        self.http, self.grpc = f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        paths = os.pathsep.join(str(ROOT / p) for p in ("libs/common", "libs/cli", "protos", "."))
        self._env = {
            **os.environ,
            **env,
            "PYTHONPATH": paths,
            "RONDO_HTTP_PORT": str(http),
            "RONDO_GRPC_PORT": str(grpc),
            "RONDO_DATA_DIR": str(folder),
        }
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServiceProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it (again) on its ports and wait until /readyz says yes."""
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services", self.name], env=self._env, cwd=ROOT, stdout=out, stderr=out
            )
        deadline = time.monotonic() + PATIENT * READY_S
        while not self._ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} is not ready: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.http}/readyz", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def pid(self) -> int:
        """Of the running process; AttributeError when there is none."""
        return self._child.pid  # type: ignore[union-attr]

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self._child is None:
            return 0
        if self._child.poll() is None:
            self._child.send_signal(number)
        code = self._child.wait(15)
        self._child = None
        return code
