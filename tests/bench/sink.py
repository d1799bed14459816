"""An SMTP server for benches: takes every mail, keeps who got which, and costs little itself.

    with Sink() as sink:                 # a process of its own; sink.pid for its CPU
        sink.address, sink.url           # "127.0.0.1:34567", "smtp://127.0.0.1:34567"
        sink.stats()                     # {"messages": 5, "bytes": 9120, "first": 1.7e9, "last": ..., "connections": 16}
        sink.recipients()                # one address a mail, in order of arrival
        sink.message_ids()               # likewise: the left sides of the Message-IDs, the touch ids
        sink.reset()

It offers PIPELINING (RFC 2920) and answers pipelined commands together. No limits, no checks: for
faults there are capture and tests.support.providers.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

ROOT = Path(__file__).parents[2]
_END = b"\r\n.\r\n"
_HELLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 52428800\r\n"


class Book:
    """What was taken. Times in seconds since 1970."""

    def __init__(self) -> None:
        self.connections = 0
        self.clear()

    def clear(self) -> None:
        self.recipients: list[bytes] = []
        self.ids: list[bytes] = []
        self.bytes = 0
        self.first = self.last = 0.0
        self.sample = b""

    def take(self, to: bytes, mail: bytes) -> None:
        self.last = time.time()
        if not self.recipients:
            self.first, self.sample = self.last, mail
        at = mail.find(b"\r\nMessage-ID: <") + 15
        self.ids.append(mail[at : mail.find(b"@", at)] if at > 14 else b"")
        self.recipients.append(to)
        self.bytes += len(mail)

    def stats(self) -> dict[str, Any]:
        return {
            "messages": len(self.recipients),
            "bytes": self.bytes,
            "first": self.first,
            "last": self.last,
            "connections": self.connections,
        }


class Session(asyncio.Protocol):
    """One SMTP connection."""

    def __init__(self, book: Book):
        self._book = book
        self._buffer = b""
        self._to = b""
        self._in_mail = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._book.connections += 1
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        out: list[bytes] = []
        at = 0
        while True:
            if self._in_mail:
                end = buffer.find(_END, at)
                if end < 0:
                    break
                self._book.take(self._to, buffer[at : end + 2])
                self._in_mail = False
                out.append(b"250 taken\r\n")
                at = end + 5
                continue
            end = buffer.find(b"\n", at)
            if end < 0:
                break
            out.append(self._command(buffer[at:end]))
            at = end + 1
        self._buffer = buffer[at:]
        if out:
            self._transport.write(b"".join(out))

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb in (b"MAIL", b"RSET", b"NOOP"):
            return b"250 ok\r\n"
        if verb == b"RCPT":
            self._to = line[line.find(b"<") + 1 : line.find(b">")]
            return b"250 ok\r\n"
        if verb == b"DATA":
            self._in_mail = True
            return b"354 go\r\n"
        if verb == b"EHLO":
            return _HELLO
        if verb == b"QUIT":
            self._transport.close()
            return b"221 bye\r\n"
        return b"250 ok\r\n" if verb == b"HELO" else b"500 what\r\n"


async def _control(book: Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        answers = {
            b"stats": book.stats,
            b"recipients": lambda: [r.decode("latin-1") for r in book.recipients],
            b"ids": lambda: [i.decode("latin-1") for i in book.ids],
            b"sample": lambda: book.sample.decode("latin-1"),
            b"reset": book.clear,
        }
        writer.write(json.dumps(answers[line.strip()]()).encode() + b"\n")
        await writer.drain()
    writer.close()


async def _serve() -> None:
    book, loop = Book(), asyncio.get_running_loop()
    smtp = await loop.create_server(lambda: Session(book), "127.0.0.1", 0, backlog=512)
    control = await asyncio.start_server(lambda r, w: _control(book, r, w), "127.0.0.1", 0)
    ports = [s.sockets[0].getsockname()[1] for s in (smtp, control)]
    print(*ports, flush=True)
    # ends with whoever started it
    await loop.connect_read_pipe(lambda: _Gone(loop), sys.stdin)
    await loop.create_future()


class _Gone(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop

    def connection_lost(self, exc: Exception | None) -> None:
        os._exit(0)


class Sink:
    """The sink as a child process."""

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sink"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._child.stdout is not None
        ports = self._child.stdout.readline().split()
        if len(ports) != 2:
            self._child.kill()
            raise RuntimeError("the sink did not start")
        self.pid = self._child.pid
        self.address = f"127.0.0.1:{int(ports[0])}"
        self.url = f"smtp://{self.address}"
        self._control = socket.create_connection(("127.0.0.1", int(ports[1])))
        self._answers = self._control.makefile("rb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._answers.close()
        self._control.close()
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, what: bytes) -> Any:
        self._control.sendall(what + b"\n")
        return json.loads(self._answers.readline())

    def stats(self) -> dict[str, Any]:
        return self._ask(b"stats")  # type: ignore[no-any-return]

    def recipients(self) -> list[str]:
        return self._ask(b"recipients")  # type: ignore[no-any-return]

    def message_ids(self) -> list[str]:
        return self._ask(b"ids")  # type: ignore[no-any-return]

    def sample(self) -> str:
        """The first mail as it came, dots still doubled."""
        return self._ask(b"sample")  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget the mails; connections stay."""
        self._ask(b"reset")


if __name__ == "__main__":
    uvloop.run(_serve())
