"""The ceiling of sending mail: prebuilt bytes over kept connections, RFC 2920 pipelining, no more.

    python tests/bench/baselines/smtp_raw.py 127.0.0.1:2525 mails connections bytes
    -> {"messages": 50000, "seconds": 1.1, "per_s": 45000, "cpu_s": 0.9}

Each connection sends a body together with MAIL, RCPT and DATA of the next mail, so a mail costs one
write, one read and one round trip. Nothing is rendered, marked or written ahead.
"""

import asyncio
import json
import sys
import time

import uvloop


class Pump(asyncio.Protocol):
    """Sends `count` mails over one connection."""

    def __init__(self, number: int, count: int, body: bytes, done: "asyncio.Future[None]"):
        self._number, self._left, self._body, self._done = number, count, body, done
        self._awaited = 1  # replies until something is to be sent
        self._greeted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def _envelope(self) -> bytes:
        self._left -= 1
        return b"MAIL FROM:<a@example.com>\r\nRCPT TO:<m%d-%d@example.com>\r\nDATA\r\n" % (self._number, self._left)

    def data_received(self, data: bytes) -> None:
        self._awaited -= data.count(b"\r\n")
        if self._awaited > 0:
            return
        if self._greeted == 0:
            self._greeted, self._awaited = 1, 4
            self._transport.write(b"EHLO bench\r\n")
        elif self._greeted == 1:
            self._greeted, self._awaited = 2, 3
            self._transport.write(self._envelope())
        elif self._left:
            self._awaited = 4
            self._transport.write(self._body + self._envelope())
        elif self._greeted == 2:
            self._greeted, self._awaited = 3, 1
            self._transport.write(self._body)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


async def push(address: str, mails: int, connections: int, size: int) -> dict[str, float]:
    """Send `mails` mails of `size` bytes."""
    host, _, port = address.rpartition(":")
    head = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: s\r\nMessage-ID: <x@example.com>\r\n\r\n"
    body = head + (b"0123456789" * 7 + b"\r\n") * max(1, (size - len(head)) // 72) + b".\r\n"
    loop = asyncio.get_running_loop()
    each = mails // connections
    began, cpu = time.perf_counter(), time.process_time()
    pumps = [loop.create_future() for _ in range(connections)]
    for number, done in enumerate(pumps):
        await loop.create_connection(lambda n=number, d=done: Pump(n, each, body, d), host, int(port))
    await asyncio.gather(*pumps)
    seconds = time.perf_counter() - began
    sent = each * connections
    return {
        "messages": sent,
        "seconds": round(seconds, 4),
        "per_s": round(sent / seconds, 1),
        "cpu_s": round(time.process_time() - cpu, 4),
    }


if __name__ == "__main__":
    where, *numbers = sys.argv[1:]
    print(json.dumps(uvloop.run(push(where, *map(int, numbers)))))
