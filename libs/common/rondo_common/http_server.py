"""uvicorn as every process runs it."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, with head and body of an answer in one write: as it is, each is a system call of its
    own and wakes the client, a fifth of what a small call costs on both sides."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]


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


class Server(uvicorn.Server):
    """One ASGI app on listening `sockets`. Without `behind_proxy` X-Forwarded-* headers are not looked at.
    Signals are the process's matter, not the server's."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], behind_proxy: bool = True):
        super().__init__(
            uvicorn.Config(
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
        )
        self._sockets = list(sockets)

    async def serve_until_told(self) -> None:
        """Accept connections until `should_exit` is set; running requests may finish."""
        await self.serve(sockets=self._sockets)
        for sock in self._sockets:
            sock.close()

    def install_signal_handlers(self) -> None:
        pass

    def capture_signals(self) -> Any:
        return nullcontext()


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
