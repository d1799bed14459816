"""`rondo doctor`: what the stack needs, and how the running one is."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rondo_cli import output, state
from rondo_cli.local import jars, ports, topology
from rondo_cli.local import redis as redis_server
from rondo_cli.paths import rondo_dir

Finding = tuple[str, str, str]
"""What was looked at; ok, warn or fail; in words."""

DISK_WARN_BYTES = 2 * 1024**3


def doctor(json: bool) -> int:
    """Print the findings; exit 1 when one fails."""
    found = state.read()
    alive = state.alive(found)
    checks: list[Callable[[], Iterator[Finding]]] = [_machine, _servers]
    checks += [lambda: _running(found or {})] if alive else [_ports]
    findings = [f for check in checks for f in check()]
    if json:
        output.as_json([dict(zip(("check", "result", "detail"), f, strict=True)) for f in findings])
    else:
        output.as_table("", ("check", "result", "detail"), findings)
    return 1 if any(f[1] == "fail" for f in findings) else 0


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield "python", "ok" if sys.version_info[:2] == (3, 11) else "fail", version
    folder = rondo_dir()
    near = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(near).free
    yield "disk", "ok" if free > DISK_WARN_BYTES else "warn", f"{free / 1024**3:.1f} GB free for {folder}"
    cores = os.cpu_count() or 1
    yield "cores", "ok" if cores >= 2 else "warn", str(cores)


def _servers() -> Iterator[Finding]:
    try:
        java = jars.find_java()
        yield "java", "ok", f"{java} (version {jars.java_version(java)})"
    except jars.Unavailable as e:
        yield "java", "fail", str(e)
    folder = jars.cache_dir() / f"kafka-{jars.KAFKA_VERSION}"
    if not folder.is_dir():
        yield "kafka jars", "warn", f"not in {folder} yet; `rondo up` fetches them (44 MB)"
    else:
        why = jars.mismatch(folder)
        yield "kafka jars", "fail" if why else "ok", why or f"{folder}, {len(jars.lock())} jars as locked"
    try:
        server = redis_server.find_server()
        yield "redis", "ok", f"{server} (version {redis_server.version_of(server)})"
    except jars.Unavailable as e:
        yield "redis", "fail", str(e)


def _ports() -> Iterator[Finding]:
    wanted = {topology.KAFKA_PORT: "kafka", topology.REDIS_PORT: "redis"}
    wanted |= {port: f"{p.name} {kind}" for p in topology.PROCESSES for kind, port in topology.port_names(p).items()}
    taken = [str(h) + f" (wanted for {use})" for port, use in wanted.items() if (h := ports.holder(port))]
    yield "stack", "ok", "not running"
    for text in taken:
        yield "port", "warn", text + "; another free one is taken at the first `rondo up`"
    if not taken:
        yield "ports", "ok", "all free"


def _running(found: dict[str, Any]) -> Iterator[Finding]:
    from kafka.errors import KafkaError

    from rondo_cli import topics as catalogue
    from rondo_cli.commands.stack import _rows
    from rondo_common.partition import PARTITIONS

    yield "stack", "ok" if found["status"] == "ready" else "warn", f"{found['status']} in {rondo_dir()}"
    for label, status, pid, *_, restarts, detail in asyncio.run(_rows(found)):
        text = f"pid {pid}, {restarts} restarts" + (f": {detail}" if detail else "")
        yield label, "ok" if status == "ready" else "fail", f"{status}, {text}"
    try:
        wrong = catalogue.differences(found["kafka"], int(os.environ.get("RONDO_PARTITIONS") or PARTITIONS))
        for difference in wrong:
            yield "topic", "fail", f"{difference.topic} {difference.what}"
        if not wrong:
            yield "topics", "ok", "as in the catalogue"
    except KafkaError as e:
        yield "topics", "fail", f"Kafka does not answer: {e}"
    yield "redis policy", *_redis_policy(found["redis"])


def _redis_policy(url: str) -> tuple[str, str]:
    """Workers refuse a Redis that may evict keys."""
    import socket
    from urllib.parse import urlsplit

    at = urlsplit(url)
    if at.password or at.scheme != "redis":
        return "warn", "not looked at: the server wants a password or TLS"
    try:
        with socket.create_connection((at.hostname or "127.0.0.1", at.port or 6379), timeout=2.0) as s:
            s.sendall(b"CONFIG GET maxmemory-policy\r\n")
            words = s.recv(1024).decode(errors="replace").split()
    except OSError as e:
        return "fail", f"Redis does not answer: {e}"
    return ("ok", "noeviction") if "noeviction" in words else ("fail", f"must be noeviction, is {words[-1:]}")
