"""gRPC between the services: servers with health and reflection, channels, and refusals that travel.

A servicer raises `Problem`; it reaches the caller as the same `Problem`. On the wire that is a
fitting gRPC status (so any client understands it) with the problem document in the trailing
metadata `rondo-problem-bin`. Any other exception is logged and answered INTERNAL without details.

Server (inside a service's `start`, see rondo_common.lifecycle):

    class Profiles(profiles_pb2_grpc.ProfilesServicer):
        async def GetMember(self, request, context):
            raise not_found("member", request.id)

    await life.grpc(rpc.Servicer(profiles_pb2, profiles_pb2_grpc.add_ProfilesServicer_to_server, Profiles()),
                    port=settings.grpc_port, ready=worker.ready)

Client, asyncio (deadline 5 s unless the call says otherwise; a server that is down is Problem 503):

    channel = rpc.channel(settings.grpc_profiles, "profiles")
    profiles = profiles_pb2_grpc.ProfilesStub(channel)
    member = await profiles.GetMember(GetMemberRequest(...), timeout=1.0)

Client in a thread (command line, tests): `with rpc.blocking_channel(address, "profiles") as channel`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rondo_common import telemetry, tracing
from rondo_common.problems import Problem, invalid, not_found, unavailable

__all__ = ["Problem", "Server", "Servicer", "blocking_channel", "channel", "invalid", "not_found", "unavailable"]

PROBLEM_TRAILER = "rondo-problem-bin"
DEADLINE_S = 5.0
"""Deadline of a call that names none."""

_OPTIONS = (
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
_SERVER_OPTIONS = (*_OPTIONS, ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000), ("grpc.so_reuseport", 0))
_CLIENT_OPTIONS = (
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
)

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    412: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

log = telemetry.logger(__name__)


@dataclass(frozen=True)
class Servicer:
    """One gRPC service to serve: the generated module that describes it, its add_X_to_server, and the
    object with the methods."""

    module: Any
    add: Callable[[Any, Any], None]
    implementation: Any

    def names(self) -> list[str]:
        """Full names of the services in the module, e.g. rondo_protos.profiles.v1.ProfilesService."""
        return [s.full_name for s in self.module.DESCRIPTOR.services_by_name.values()]


class Server:
    """An asyncio gRPC server on `host:port` (0 takes a free port). `ready` feeds grpc.health.v1."""

    def __init__(
        self,
        servicers: Sequence[Servicer],
        host: str = "127.0.0.1",
        port: int = 0,
        ready: Callable[[], tuple[bool, str]] | None = None,
    ):
        self._address = f"{host}:{port}"
        self._ready = ready
        self._server = grpc.aio.server(interceptors=[_ProblemsOut()], options=_SERVER_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names = ["", *(name for s in servicers for name in s.names())]
        self._watch: asyncio.Task[None] | None = None
        for servicer in servicers:
            servicer.add(servicer.implementation, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )

    async def start(self) -> int:
        """Begin to serve; returns the port. OSError when it is taken."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as e:
            raise OSError(f"can't listen on {self._address}: {e}") from e
        if not port:
            raise OSError(f"can't listen on {self._address}")
        await self._server.start()
        await self._report()
        self._watch = asyncio.create_task(self._keep_reporting())
        return port

    async def _report(self) -> None:
        try:
            good = self._ready is None or self._ready()[0]
        except Exception:  # what it asks is not there yet
            good = False
        status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._report()

    async def stop(self, grace_s: float = 1.0) -> None:
        """Refuse new calls, let running ones finish within `grace_s`."""
        if self._watch:
            self._watch.cancel()
        await self._server.stop(grace_s)


class _ProblemsOut(grpc.aio.ServerInterceptor):
    """Turns what a servicer raises into a status."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return handler
        if handler.unary_unary:
            inner = handler.unary_unary

            async def unary(request: Any, context: Any) -> Any:
                _begin(context)
                try:
                    with _span(details.method, tracing.SERVER) as own:
                        telemetry.enter_span(own)
                        return await inner(request, context)
                except Exception as e:
                    await _abort(context, details.method, e)

            return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)
        if handler.unary_stream:
            inner_stream = handler.unary_stream

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                _begin(context)
                try:
                    with _span(details.method, tracing.SERVER) as own:
                        telemetry.enter_span(own)
                        async for answer in inner_stream(request, context):
                            yield answer
                except Exception as e:
                    await _abort(context, details.method, e)

            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        return handler


def _span(method: str | bytes, kind: str) -> Any:
    """A span around a call in the current trace."""
    name = (method.decode() if isinstance(method, bytes) else method).lstrip("/")
    service, _, call = name.partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": call}
    return tracing.span(name, kind, telemetry.traceparent(), attributes)


def _begin(context: Any) -> None:
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            telemetry.start_trace(value)
            return
    telemetry.start_trace()


async def _abort(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, Problem):
        code = _CODES.get(error.status, grpc.StatusCode.INTERNAL if error.status >= 500 else grpc.StatusCode.UNKNOWN)
        await context.abort(code, error.detail or error.title, trailing_metadata=((PROBLEM_TRAILER, error.encode()),))
    log.exception("rpc failed", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has it")


def to_problem(error: grpc.RpcError, server: str) -> Problem:
    """The Problem behind a failed call: the one the servicer raised, else one made of the status.
    `server` is the name of the service that was asked."""
    trailers = error.trailing_metadata() or ()  # type: ignore[attr-defined]
    for key, value in trailers:
        if key == PROBLEM_TRAILER:
            return Problem.decode(value if isinstance(value, bytes) else value.encode())
    code = error.code()  # type: ignore[attr-defined]
    details = error.details() or ""  # type: ignore[attr-defined]
    if code is grpc.StatusCode.UNAVAILABLE:
        return unavailable(server, "It does not answer; it may be starting or stopped")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return unavailable(server, "It did not answer in time")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Problem(501, "not-implemented", f"{server} does not serve this call")
    return Problem(502, "upstream", f"{server} failed", f"{code.name}: {details}")


def _with_defaults(details: Any, own: str | None = None) -> Any:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if telemetry.trace_id():
        metadata.add("traceparent", own or telemetry.traceparent())
    timeout = DEADLINE_S if details.timeout is None else details.timeout
    return grpc.aio.ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


class _UnaryIn(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, server: str):
        self._server = server

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        try:
            with _span(details.method, tracing.CLIENT) as own:
                call = await continuation(_with_defaults(details, own), request)
                return await call
        except grpc.aio.AioRpcError as e:
            raise to_problem(e, self._server) from e


class _StreamIn(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, server: str):
        self._server = server

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(_with_defaults(details), request)

        async def answers() -> AsyncIterator[Any]:
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as e:
                raise to_problem(e, self._server) from e

        return answers()


def channel(address: str, server: str) -> grpc.aio.Channel:
    """A channel to `server` (its name, for messages) at host:port. Connects when first used and again
    when lost. Failed calls raise `Problem`. Make it inside a running event loop; close() it at the end."""
    return grpc.aio.insecure_channel(
        address, options=_CLIENT_OPTIONS, interceptors=[_UnaryIn(server), _StreamIn(server)]
    )


class _BlockingIn(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, server: str):
        self._server = server

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        timed = _BlockingDetails(details)
        call = continuation(timed, request)
        if isinstance(error := call.exception(), grpc.RpcError):
            raise to_problem(error, self._server) from error
        return call


class _BlockingDetails(grpc.ClientCallDetails):
    def __init__(self, details: Any):
        self.method = details.method
        self.timeout = DEADLINE_S if details.timeout is None else details.timeout
        self.metadata = details.metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


def blocking_channel(address: str, server: str) -> grpc.Channel:
    """Like `channel` for code without an event loop. Streams raise grpc.RpcError as they are."""
    return grpc.intercept_channel(grpc.insecure_channel(address, options=_CLIENT_OPTIONS), _BlockingIn(server))
