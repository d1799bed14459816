"""How every process starts, says that it is well, and ends.

A service's `main` builds its parts and hands them to `run`, which owns signals, logging, the
servers' life and the exit code:

    def main(settings: Settings) -> int:
        return lifecycle.run(settings, lambda life: start(life, settings))

    async def start(life: Life, settings: Settings) -> None:
        worker = Worker(...)                                     # a blocking loop with run() and stop()
        life.thread("stream", worker.run, stop=worker.stop)
        app = lifecycle.health_app(worker.ready, [Route("/v1/x", x)])
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
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rondo_common import telemetry, tracing
from rondo_common.settings import Settings

GRACE_S = 4.0
"""Seconds a process may take to end; the supervisor kills it after 5."""

GC_AFTER = 20_000
"""New containers between two runs of the cycle collector."""

Ready = Callable[[], tuple[bool, str]]
"""Says whether the process can do its work, and what it misses when it can't. Quick and without I/O."""

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
        self._servers: list[uvicorn.Server] = []
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
        config = uvicorn.Config(
            app,
            http=_Protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=behind_proxy,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=30,
        )
        server = _Server(config)
        self._servers.append(server)

        async def serve() -> None:
            await server.serve(sockets=sockets)
            for sock in sockets:
                sock.close()

        self.task(f"http:{bound}", serve())
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


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, with head and body of an answer in one write: as it is, each is a system call of its
    own and wakes the client, a fifth of what a small call costs on both sides."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Joined(transport, self.loop))


_LARGE = 16_384


class _Joined:
    """A transport whose writes of one turn of the loop go out together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        if len(data) > _LARGE:
            self._flush()  # streams of large pieces must meet the transport's own limit

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: `run` has that."""

    def install_signal_handlers(self) -> None:
        pass

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


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


def listening_socket(host: str, port: int, shared: bool = False) -> socket.socket:
    """A bound, listening TCP socket; OSError naming the address when it is taken. `shared`: processes of
    the same user that ask for the same may listen there too (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as e:
        sock.close()
        raise OSError(e.errno, f"can't listen on {host}:{port}: {e.strerror}") from e
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def all_ready(*checks: Ready) -> Ready:
    """Ready when all are; until then it says what the first one that is not says, after that what the first says."""

    def ready() -> tuple[bool, str]:
        found = [check() for check in checks]
        return next((one for one in found if not one[0]), found[0])

    return ready


def health_routes(ready: Ready) -> list[BaseRoute]:
    """/healthz (the process answers), /readyz (it can do its work; 503 says what it misses), /metrics (all, or
    those of `?name[]=`, as Prometheus' own client libraries have it)."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        try:
            good, why = ready()
        except Exception as e:  # what it asks is not there yet
            good, why = False, f"readiness is not known: {e}"
        return JSONResponse({"ready": good, "detail": why}, status_code=200 if good else 503)

    async def metrics(request: Request) -> Response:
        body, kind = telemetry.exposition(request.query_params.getlist("name[]"))
        return Response(body, headers={"content-type": kind})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def health_app(ready: Ready, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The small HTTP server of a process whose work is elsewhere: health, metrics, and any extra routes."""
    return Starlette(routes=[*health_routes(ready), *extra_routes])
