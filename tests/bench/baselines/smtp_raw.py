"""The ceiling of sending mail: prebuilt bytes over kept connections, RFC 2920 pipelining, no more.

    python -m tests.bench.baselines.smtp_raw 127.0.0.1:2525 mails connections bytes
    -> {"messages": 50000, "seconds": 1.1, "per_s": 45000, "cpu_s": 0.9}

Each connection sends a body together with MAIL, RCPT and DATA of the next mail, so a mail costs one
write, one read and one round trip. Nothing is rendered, marked or written ahead.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator

import uvloop

Mail = tuple[bytes, bytes]
"""An envelope (MAIL, RCPT, DATA) and a body with its final dot."""


class Pump(asyncio.Protocol):
    """One connection. `ready` when the server has greeted; then `push`, one call after the other."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._awaited = 1  # replies until something is to be sent
        self._greeted = False
        self._body: bytes | None = None
        self._mails: Iterator[Mail] = iter(())
        self._done = self.ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def push(self, mails: Iterable[Mail]) -> "asyncio.Future[None]":
        """Send them; the future is done when the last one was taken."""
        self._mails, self._done = iter(mails), self._loop.create_future()
        first = next(self._mails, None)
        if first is None:
            self._done.set_result(None)
        else:
            self._transport.write(first[0])
            self._awaited, self._body = 3, first[1]
        return self._done

    def data_received(self, data: bytes) -> None:
        self._awaited -= data.count(b"\r\n")
        if self._awaited > 0:
            return
        if self._body is not None:
            following = next(self._mails, None)
            if following is None:
                self._transport.write(self._body)
                self._awaited, self._body = 1, None
            else:
                self._transport.write(self._body + following[0])
                self._awaited, self._body = 4, following[1]
        elif self._greeted:
            self._done.set_result(None)
        else:
            self._greeted, self._awaited = True, 4
            self._transport.write(b"EHLO bench\r\n")

    def close(self) -> None:
        self._transport.close()


async def connected(address: str, connections: int) -> list[Pump]:
    """So many connections, ready to push."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    pumps = [(await loop.create_connection(Pump, host, int(port)))[1] for _ in range(connections)]
    await asyncio.gather(*(pump.ready for pump in pumps))
    return pumps


async def push(address: str, mails: int, connections: int, size: int) -> dict[str, float]:
    """Send `mails` mails of `size` bytes."""
    head = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: s\r\nMessage-ID: <x@example.com>\r\n\r\n"
    body = head + (b"0123456789" * 7 + b"\r\n") * max(1, (size - len(head)) // 72) + b".\r\n"
    each = mails // connections
    envelope = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<m%d-%d@example.com>\r\nDATA\r\n"
    began, cpu = time.perf_counter(), time.process_time()
    pumps = await connected(address, connections)
    await asyncio.gather(
        *(pump.push((envelope % (n, left), body) for left in range(each)) for n, pump in enumerate(pumps))
    )
    seconds = time.perf_counter() - began
    sent = each * connections
    for pump in pumps:
        pump.close()
    return {
        "messages": sent,
        "seconds": round(seconds, 4),
        "per_s": round(sent / seconds, 1),
        "cpu_s": round(time.process_time() - cpu, 4),
    }


if __name__ == "__main__":
    where, *numbers = sys.argv[1:]
    print(json.dumps(uvloop.run(push(where, *map(int, numbers)))))
