"""`rondo up`: Kafka and its topics beside Redis, then capture, then the services; what dies is started again on the
same ports; the end leaves no process behind.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from rondo_cli import state
from rondo_cli.errors import Failure
from rondo_cli.local import canary, kafka, ports, probe, process
from rondo_cli.local import plan as planning
from rondo_cli.local import redis as redis_server
from rondo_cli.local.forkserver import ForkServer
from rondo_cli.local.jars import Unavailable
from rondo_cli.local.managed import Managed, Spec, StartFailed
from rondo_cli.local.plan import Instance, Plan
from rondo_cli.local.report import document

HELD = "held"
"""Folder of empty files named like processes: these are kept stopped (`rondo stop`, `rondo start`)."""


def lock(folder: Path) -> IO[str]:
    """Hold the folder for one supervisor; Failure when another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    held = open(folder / "lock", "a+")  # noqa: SIM115 - held open for as long as the stack runs
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        held.close()
        found = state.read(folder) or {}
        pid = (found.get("supervisor") or {}).get("pid", "?")
        raise Failure(f"a stack is already running here (pid {pid}): `rondo status`, or `rondo down` first") from e
    return held


class Supervisor:
    """Runs a Plan until it is told to stop. `say` gets one line at a time of what happens."""

    def __init__(self, plan: Plan, say: Callable[[str], None]):
        self.plan = plan
        self._say = say
        self._status = "starting"
        self.ready = asyncio.Event()
        """Set once everything is ready for the first time."""
        self._stop = asyncio.Event()
        self._guard: process.Guard
        self._forks: ForkServer | None = None
        self._servers: list[Managed] = []
        self._services: list[tuple[Instance, Managed]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._began = process.started_at(os.getpid())
        self._phases: dict[str, float] = {}

    def request_stop(self) -> None:
        """Begin the end; safe in a signal handler of the loop."""
        self._stop.set()

    async def run(self) -> int:
        """Start everything, stay until stopped, end everything. The exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_stop)
        self._guard = process.Guard()
        folder = self.plan.options.folder
        (folder / "logs").mkdir(exist_ok=True)
        shutil.rmtree(folder / HELD, ignore_errors=True)
        (folder / HELD).mkdir()
        self._forks = self._fork_server()
        self._write()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        except (StartFailed, Unavailable, Failure, RuntimeError, OSError) as e:
            self._failure = self._failure or e
        finally:
            starting.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await starting
            await self._end()
        if self._failure:
            self._say(f"FAILED: {self._failure}")
            return 1
        return 0

    def _passed(self, phase: str) -> None:
        """Note how long after the beginning of this process a part of the start was done."""
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._phases[phase] = round(since_boot - self._began / os.sysconf("SC_CLK_TCK"), 1)

    async def _start(self) -> None:
        redis = asyncio.create_task(self._start_redis())  # needs nobody: while Kafka starts
        try:
            await self._start_kafka()
            await redis
        finally:
            redis.cancel()
        await self._start_services()
        await canary.run(self.plan, self._say)
        self._passed("ready")
        self._status = "ready"
        self._write()
        self.ready.set()

    async def _start_kafka(self) -> None:
        plan = self.plan
        if plan.broker:
            await asyncio.to_thread(plan.broker.prepare)
            spec = Spec(
                "kafka",
                "kafka",
                await asyncio.to_thread(plan.broker.command),
                os.environ,
                {"kafka": plan.broker.port, "controller": plan.broker.controller_port},
                _in_thread(kafka.ready),
                self._log("kafka"),
                stop_s=10.0,
            )
            await self._launch(self._servers, [spec])
            self._passed("kafka")
        made = await asyncio.to_thread(self._topics)
        self._passed("topics")
        self._say(f"kafka at {plan.addresses.kafka}, {made} topics made")

    async def _start_redis(self) -> None:
        plan = self.plan
        if plan.redis:
            plan.redis.prepare()
            spec = Spec(
                "redis",
                "redis",
                plan.redis.command(),
                os.environ,
                {"redis": plan.redis.port},
                _in_thread(redis_server.ready),
                self._log("redis"),
            )
            await self._launch(self._servers, [spec])

    async def _start_services(self) -> None:
        plan = self.plan
        for name, port in {i.process.name: i.shared for i in plan.instances if i.shared}.items():
            ports.check_free(port, f"{name} (shared by its instances)")
        for first in (True, False):  # capture, then the services all at once
            some = [i for i in plan.instances if (i.process.name == "capture") is first]
            held = plan.options.folder / HELD
            started = [Managed(self._spec(i), self._write, self._guard, self._say, held / i.process.name) for i in some]
            self._services += zip(some, started, strict=True)
            await self._all_ready(started)
            self._passed("capture" if first else "services")

    def _topics(self) -> int:
        from rondo_cli.topics import create_catalogue

        keep = self.plan.options.test_clock is not None
        return len(create_catalogue(self.plan.addresses.kafka, self.plan.partitions, self.plan.replication, keep))

    async def _launch(self, into: list[Managed], specs: list[Spec]) -> None:
        started = [Managed(s, self._write, self._guard, self._say) for s in specs]
        into += started
        await self._all_ready(started)

    async def _all_ready(self, started: list[Managed]) -> None:
        tasks = [asyncio.create_task(m.run(), name=m.spec.label) for m in started]
        self._tasks += tasks
        for task in tasks:
            task.add_done_callback(self._ended)
        await asyncio.gather(*(m.ready_once.wait() for m in started))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A process was given up: so is the stack."""
        if not task.cancelled() and (error := task.exception()):
            self._failure = self._failure or error
            self._stop.set()

    def _fork_server(self) -> ForkServer | None:
        """What starts the services; none where they are something else than the services (tests)."""
        if not all(planning.forkable(i.process) for i in self.plan.instances):
            return None
        names = sorted({i.process.name for i in self.plan.instances})
        return ForkServer(names, self._log("forkserver"), planning.base_environment(), planning.CODE)

    def _spec(self, instance: Instance) -> Spec:
        command, cwd = planning.command(instance.process)
        return Spec(
            instance.label,
            instance.process.name,
            command,
            instance.env,
            instance.ports,
            probe.ready,
            self._log(instance.label),
            cwd,
            instance.slot,
            forked=self._forks,
        )

    def _log(self, label: str) -> Path:
        return self.plan.options.folder / "logs" / f"{label}.log"

    async def _end(self) -> None:
        self._status = "stopping"
        self._write()
        capture = [m for i, m in self._services if i.process.name == "capture"]
        services = [m for i, m in self._services if i.process.name != "capture"]
        # services first, while what they need is still there to say good-bye to; Kafka last
        for group in (services, [*capture, *(m for m in self._servers if m.spec.name != "kafka")], self._servers):
            await asyncio.gather(*(m.stop() for m in group))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._status = "failed" if self._failure else "stopped"
        self._write()
        if self._forks is not None:
            self._forks.close()
        self._guard.close()

    def _write(self) -> None:
        status = self._status
        if status == "ready" and any(m.status != "ready" for m in self._everything()):
            status = "degraded"
        state.write(
            self.plan.options.folder,
            document(self.plan, status, self._began, self._servers, self._services, self._phases),
        )

    def _everything(self) -> list[Managed]:
        return [*self._servers, *(m for _, m in self._services)]


def _in_thread(check: Callable[[int], bool]) -> Callable[[int], Awaitable[bool]]:
    async def ready(port: int) -> bool:
        return await asyncio.to_thread(check, port)

    return ready
