"""Readiness over HTTP, in a few lines of asyncio so that `rondo up` imports no client library."""

import asyncio
import sys
from contextlib import suppress


async def get(port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Status and body of GET `path` on 127.0.0.1:`port`; status 0 when nobody answers in time."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(1_000_000)
    except (OSError, TimeoutError):
        return 0, b""
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


async def ready(port: int) -> bool:
    """True when GET /readyz answers 200."""
    return (await get(port, "/readyz"))[0] == 200


if __name__ == "__main__":  # health check of a container: python -m rondo_cli.local.probe PORT
    sys.exit(0 if asyncio.run(ready(int(sys.argv[1]))) else 1)
