"""One process under the supervisor: started, watched, started again on the same ports, ended."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rondo_cli.local import ports, process
from rondo_cli.local.forkserver import Adopted, ForkServer, Gone

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 10.0
WELL_AFTER_S = 20.0
"""A process that lived this long is well: its next restart is immediate again."""
STARTS_BEFORE_GIVING_UP = 5
"""Before it was ready for the first time; afterwards it is started again for ever."""
START_S = 120.0
HELD_EVERY_S = 0.2
ROTATE_BYTES = 20 * 1024 * 1024


class StartFailed(RuntimeError):
    """A process did not become ready; the text has the end of its log."""


@dataclass
class Spec:
    """What to run. `ports` by name, the first is asked for readiness with `ready`, an awaitable that is
    only called while one of our own processes listens there. `forked`: it is one of the services, which the
    fork server starts quicker."""

    label: str
    name: str
    command: list[str]
    env: Mapping[str, str]
    ports: dict[str, int]
    ready: Callable[[int], Awaitable[bool]]
    log: Path
    cwd: Path | None = None
    slot: int = 0
    stop_s: float = 6.0
    forked: ForkServer | None = None


@dataclass
class Managed:
    """A Spec that runs. `status`: starting, ready, restarting, held, stopped, failed. `changed` is called
    at each change of pid or status. While the file `held` exists the process is kept stopped."""

    spec: Spec
    changed: Callable[[], None]
    guard: process.Guard
    say: Callable[[str], None]
    held: Path | None = None
    status: str = "stopped"
    pid: int | None = None
    restarts: int = -1
    note: str = ""
    ready_once: asyncio.Event = field(default_factory=asyncio.Event)
    _child: subprocess.Popen[bytes] | Adopted | None = None
    _stopping: bool = False
    _spawning: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Keep it running until `stop`. StartFailed when it never becomes ready."""
        backoff, failures = FIRST_BACKOFF_S, 0
        while not self._stopping:
            if self.held is not None and self.held.exists():
                self._set("held")
                await asyncio.sleep(HELD_EVERY_S)
                continue
            begun = time.monotonic()
            self._set("starting" if not self.ready_once.is_set() else "restarting")
            try:
                await self._spawn()
            except (ports.PortTaken, OSError) as e:
                why = str(e)
            else:
                why = await self._watch(begun)
            if self._stopping:
                return
            if self.held is not None and self.held.exists():
                continue
            if not self.ready_once.is_set():
                failures += 1
                if failures >= STARTS_BEFORE_GIVING_UP:
                    self._set("failed", why)
                    raise StartFailed(f"{self.spec.label} does not start: {why}\n{self.tail()}")
            if time.monotonic() - begun > WELL_AFTER_S:
                backoff = FIRST_BACKOFF_S
            self.say(f"{self.spec.label} {why}; starting it again in {backoff:.1f} s")
            self._set("restarting", why)
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF_S, backoff * 2)

    async def _spawn(self) -> None:
        for kind, port in self.spec.ports.items():
            ports.check_free(port, f"{self.spec.label} ({kind})")
        log = self.spec.log
        if log.exists() and log.stat().st_size > ROTATE_BYTES:
            log.replace(log.with_suffix(".old"))
        spec = self.spec
        async with self._spawning:
            self._child = await self._forked(log) or process.spawn(spec.command, log, spec.env, spec.cwd)
        self.guard.watch(self._child.pid)
        self.pid = self._child.pid
        self.restarts += 1
        self.changed()

    async def _forked(self, log: Path) -> Adopted | None:
        """The child from the fork server; None where there is no such server."""
        if self.spec.forked is None:
            return None
        try:
            return await self.spec.forked.spawn(self.spec.name, log, self.spec.env)
        except Gone as e:
            self.say(f"{self.spec.label} takes longer to start: {e}")
            return None

    async def _watch(self, begun: float) -> str:
        """Follow the running child to its end; why it ended, in words."""
        assert self._child
        exited = asyncio.Event()
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(self._child.pid)
        loop.add_reader(pidfd, exited.set)
        beside = [asyncio.create_task(self._become_ready(begun)), asyncio.create_task(self._end_when_held())]
        try:
            await exited.wait()
        finally:
            for task in beside:
                task.cancel()
            loop.remove_reader(pidfd)
            os.close(pidfd)
        code = self._child.wait()
        process.kill_group(self._child.pid)
        self.guard.forget(self._child.pid)
        self.pid = None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def _become_ready(self, begun: float) -> None:
        assert self._child
        pid, port = self._child.pid, next(iter(self.spec.ports.values()))
        pause = 0.05
        while True:
            if self._ours(port, pid) and await self.spec.ready(port):
                self._set("ready")
                self.ready_once.set()
                return
            if not self.ready_once.is_set() and time.monotonic() - begun > START_S:
                self.say(f"{self.spec.label} is not ready after {START_S:.0f} s")
                process.kill_group(pid)
                return
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.3)

    @staticmethod
    def _ours(port: int, pid: int) -> bool:
        """One of our own processes listens there; the cheap questions first."""
        return ports.listening(port) and (ports.held_by(port, {pid}) or ports.held_by(port, process.group(pid)))

    async def _end_when_held(self) -> None:
        while self.held is not None and not self.held.exists():
            await asyncio.sleep(HELD_EVERY_S)
        if self.held is not None:
            self.say(f"{self.spec.label} is held: `rondo start {self.spec.name}` lets it run again")
            await self._end_child()

    async def stop(self) -> None:
        """End it for good."""
        self._stopping = True
        await self._end_child()
        self.pid = None
        self._set("stopped")

    async def _end_child(self) -> None:
        """SIGTERM, then SIGKILL after `stop_s`; with its whole group."""
        async with self._spawning:  # one that is being born is ended too
            child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            deadline = time.monotonic() + self.spec.stop_s
            while child.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            if child.poll() is None:
                self.say(f"{self.spec.label} did not end in {self.spec.stop_s:.0f} s; killing it")
            process.kill_group(child.pid)
            child.wait()
            self.guard.forget(child.pid)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.spec.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _set(self, status: str, note: str = "") -> None:
        if (self.status, self.note) != (status, note):
            self.status, self.note = status, note
            self.changed()
