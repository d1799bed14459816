"""How every process starts, says that it is well, and ends.

A service's `main` builds its parts and hands them to `run`, which owns signals, logging, the
servers' life and the exit code:

    def main(settings: Settings) -> int:
        return lifecycle.run(settings, lambda life: start(life, settings))

    async def start(life: Life, settings: Settings) -> None:
        worker = Worker(...)                                     # a blocking loop with run() and stop()
        life.thread("stream", worker.run, stop=worker.stop)
        app = health.app(worker.ready, [Route("/v1/x", x)])
        await life.http(app, settings.http_port)
        await life.grpc(rpc.Servicer(profiles_pb2, add_ProfilesServicer_to_server, servicer),
                        port=settings.grpc_port, ready=worker.ready)
        life.task("refresh", refresh(life))                      # a coroutine that should not end by itself
        life.on_stop(redis.aclose)                               # run at the end, last added first

`start` returns when all is begun. The process ends at SIGTERM or SIGINT (exit 0, within `grace`
seconds), or when a thread or task ends or raises by itself (exit 1, or the exception's `exit_code`:
the supervisor starts it again). A second signal ends it at once.
"""

import asyncio
import gc
import inspect
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rondo_common import telemetry, tracing
from rondo_common.health import Ready
from rondo_common.http_server import Server, listening_socket
from rondo_common.settings import Settings

GRACE_S = 4.0
"""Seconds a process may take to end; the supervisor kills it after 5."""

GC_AFTER = 20_000
"""New containers between two runs of the cycle collector."""

log = telemetry.logger(__name__)


class Life:
    """What a process consists of while it lives. Made by `run`; see the module's example."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._code = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._threads: list[tuple[threading.Thread, Callable[[], Any] | None]] = []
        self._servers: list[Server] = []
        self._closers: list[Callable[[], Any]] = []

    @property
    def stopping(self) -> bool:
        """True once the end has begun."""
        return self._stop.is_set()

    async def stopped(self) -> None:
        """Wait for the end to begin."""
        await self._stop.wait()

    def stop(self, failed: bool = False, code: int = 1) -> None:
        """Begin the end; from any thread. `failed` makes the exit code `code`; the first one stays."""
        if failed and not self._code:
            self._code = code
        self._loop.call_soon_threadsafe(self._stop.set)

    def task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine for as long as the process lives; cancelled at the end."""

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("task failed", task=name)
            else:
                if self.stopping:
                    return
                log.error("task ended by itself", task=name)
            self.stop(failed=True)

        made = asyncio.create_task(watched(), name=name)
        self._tasks.append(made)
        return made

    def thread(self, name: str, work: Callable[[], None], stop: Callable[[], Any] | None = None) -> threading.Thread:
        """Run a blocking function in a thread of its own. `stop` asks it to return (called at the end
        from the event loop's thread, must not block)."""

        def watched() -> None:
            try:
                work()
            except BaseException as e:
                log.exception("thread failed", thread=name)
                # a stage that is refused says so (2): starting it again would not help
                self.stop(failed=True, code=getattr(e, "exit_code", 1))
            else:
                if not self.stopping:
                    log.error("thread ended by itself", thread=name)
                    self.stop(failed=True)

        made = threading.Thread(target=watched, name=name, daemon=True)
        self._threads.append((made, stop))
        made.start()
        return made

    def on_stop(self, closer: Callable[[], Any]) -> None:
        """Call `closer` (plain or async) after servers, tasks and threads have ended, last added first."""
        self._closers.append(closer)

    async def http(
        self, app: Any, port: int = 0, host: str | None = None, shared_port: int = 0, behind_proxy: bool = True
    ) -> int:
        """Serve an ASGI app until the end. Returns the port once connections are accepted; OSError when
        it is taken. At the end new requests are refused and running ones may finish.

        On `shared_port` further processes may listen with it: the kernel gives each connection to one of
        them. Without `behind_proxy` X-Forwarded-* headers are not looked at."""
        host = host or self.settings.host
        sockets = [listening_socket(host, port)]
        if shared_port:
            sockets.append(listening_socket(host, shared_port, shared=True))
        bound: int = sockets[0].getsockname()[1]
        server = Server(app, sockets, behind_proxy)
        self._servers.append(server)
        self.task(f"http:{bound}", server.serve_until_told())
        while not server.started:
            if self.stopping:
                raise OSError(f"the HTTP server on port {bound} did not start")
            await asyncio.sleep(0.005)
        log.info("http listening", port=bound)
        return bound

    async def grpc(self, *servicers: Any, port: int = 0, host: str | None = None, ready: Ready | None = None) -> int:
        """Serve `rpc.Servicer`s with health.v1 and reflection until the end; returns the bound port."""
        from rondo_common import rpc

        server = rpc.Server(servicers, host or self.settings.host, port, ready)
        bound = await server.start()
        self.on_stop(server.stop)
        log.info("grpc listening", port=bound)
        return bound

    async def _end(self, grace: float) -> None:
        for server in self._servers:
            server.should_exit = True
        for _, stop in self._threads:
            if stop is not None:
                _quietly(stop)
        served = [t for t in self._tasks if t.get_name().startswith("http:")]
        for task in self._tasks:
            if task not in served:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        deadline = self._loop.time() + grace
        for thread, stop in self._threads:
            if stop is None:
                continue
            await asyncio.to_thread(thread.join, max(0.1, deadline - self._loop.time()))
            if thread.is_alive():
                log.error("thread did not end in time", thread=thread.name)
        for closer in reversed(self._closers):
            try:
                made = closer()
                if inspect.isawaitable(made):
                    await asyncio.wait_for(made, 2.0)
            except Exception:
                log.exception("closing failed")


def _quietly(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception:
        log.exception("stopping failed")


def run(settings: Settings, start: Callable[[Life], Awaitable[None]], grace: float = GRACE_S) -> int:
    """Run a process from logging set-up to exit code. See the module's example."""
    telemetry.configure(settings.service, settings.log_level)
    tracing.configure(settings.service, settings.slot, settings.otlp_endpoint, settings.trace_ratio)

    async def body() -> int:
        life = Life(settings)
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if life.stopping:
                os._exit(1)
            life.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        log.info("starting", pid=os.getpid(), slot=settings.slot)
        starting = asyncio.ensure_future(start(life))
        stopped = asyncio.ensure_future(life.stopped())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                _spare_collector()
                await stopped
        except Exception:
            log.exception("start failed")
            life.stop(failed=True)
        finally:
            starting.cancel()
            stopped.cancel()
            life._stop.set()
            await life._end(grace)
        log.info("stopped", failed=bool(life._code))
        return life._code

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(body())
    tracing.close()
    if any(t.is_alive() and not t.daemon for t in threading.enumerate() if t is not threading.main_thread()):
        os._exit(code)  # a library's thread that would keep the process alive
    return code


def _spare_collector() -> None:
    """Let the cycle collector look less often, and never again at what a started process consists of.

    By default it runs after every 700 new containers, which under load is many times a second and took a
    tenth of a process's time; what our code makes is freed by reference counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_AFTER, 20, 20)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
