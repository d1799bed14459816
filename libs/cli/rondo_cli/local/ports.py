"""Free ports on 127.0.0.1, and who holds a port that is not free.

The table of listening sockets is read from /proc, so nothing is ever sent to a server that is not
known to be ours.
"""

import os
import random
import socket
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port. `pid` is None when it belongs to somebody we can't see."""

    port: int
    pid: int | None
    command: str

    def __str__(self) -> str:
        who = f"pid {self.pid} ({self.command})" if self.pid else "a process of another user"
        return f"port {self.port} is held by {who}"


class PortTaken(RuntimeError):
    """A port we need is held by somebody else."""

    def __init__(self, holder: Holder, purpose: str):
        super().__init__(f"{holder}; it is needed for {purpose}. Stop that process or choose another port.")
        self.holder = holder


def is_free(port: int, host: str = HOST) -> bool:
    """True when a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError:
            return False
        return True


def free_ports(count: int, preferred: int = 0, avoid: set[int] | None = None) -> list[int]:
    """`count` ports nobody listens on. From `preferred` upwards when given, so that addresses are
    easy to remember; else from a random place below the range the system hands out by itself, so
    that two stacks that start at once don't meet."""
    avoid = set(avoid or ())
    found: list[int] = []
    candidate = preferred or random.randrange(10_000, 30_000)
    while len(found) < count:
        if candidate > 32_000:
            candidate = 10_000
        if candidate not in avoid and is_free(candidate):
            found.append(candidate)
        candidate += 1
    return found


def holder(port: int) -> Holder | None:
    """Who listens on the port, None when nobody does."""
    inodes = _listening(port)
    if not inodes:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _holds(entry, inodes):
            return Holder(port, int(entry.name), command_of(int(entry.name)))
    return Holder(port, None, "")


def listening(port: int) -> bool:
    """True when anybody listens on the port."""
    return bool(_listening(port))


def held_by(port: int, pids: set[int]) -> bool:
    """True when the port's listener is one of `pids`."""
    inodes = _listening(port)
    return bool(inodes) and any(_holds(Path(f"/proc/{pid}"), inodes) for pid in pids)


def check_free(port: int, purpose: str) -> None:
    """PortTaken, naming the holder, unless the port is free."""
    if not is_free(port):
        raise PortTaken(holder(port) or Holder(port, None, ""), purpose)


def command_of(pid: int) -> str:
    """The command line of a process, shortened; empty when it is gone or not ours to read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = " ".join(w.decode(errors="replace") for w in words if w)
    return text if len(text) <= 100 else text[:97] + "..."


def _listening(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        for fd in (process / "fd").iterdir():
            target = os.readlink(fd)
            if target.startswith("socket:[") and target[8:-1] in inodes:
                return True
    except OSError:
        return False
    return False
