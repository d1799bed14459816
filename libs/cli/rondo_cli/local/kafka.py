"""One real Kafka broker (KRaft, broker and controller in one process) on 127.0.0.1.

`prepare` writes its configuration and formats its folder once, `command` is what to run, `ready`
asks it over the wire. The supervisor and the tests' session fixture both use these three.
"""

import os
import socket
import struct
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from rondo_cli.local import jars, settle

HEAP = "-Xmx512m"
JVM = (HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # one broker: every internal topic has one copy, and few partitions are quick to make
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # a worker that never returns delays readers by its transaction time-out plus this at most
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # a killed broker may come back once its own old session is over (default 9 s)
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # record timestamps are Rondo's clock, which may be a test clock anywhere in time
    "log.message.timestamp.after.max.ms": str(2**63 - 1),
    "log.message.timestamp.before.max.ms": str(2**63 - 1),
    "message.max.bytes": str(10 * 1024 * 1024),
    "log.segment.bytes": str(64 * 1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    "num.recovery.threads.per.data.dir": "2",
    "offsets.retention.minutes": str(365 * 24 * 60),
}
"""What every broker of one is told, besides where it lives; those of deploy/ too."""


@dataclass(frozen=True)
class Broker:
    """Where one local broker lives: its folder and its two ports."""

    folder: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        """All of its server.properties."""
        return {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "log.dirs": str(self.folder / "log"),
            "broker.session.timeout.ms": str(settle.SESSION_MS),
            # for measuring what syncing each record costs (`rondo bench --flush`); see docs/durability.md
            **({"log.flush.interval.messages": "1"} if os.environ.get("RONDO_LOCAL_KAFKA_FLUSH") else {}),
        }

    def prepare(self) -> None:
        """Write the configuration; format the folder if that was not done. jars.Unavailable when there
        is no Java or no Kafka to be had, RuntimeError when formatting fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{k}={v}\n" for k, v in sorted(self.properties().items()))
        config = self.folder / "server.properties"
        config.write_text(text)
        if (self.folder / "log" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        while cluster.startswith("-"):  # Kafka's tools would read it as an option
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        made = subprocess.run(
            [*_java("-Xmx128m", *JVM[1:]), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"formatting Kafka's folder failed: {(made.stdout + made.stderr).strip()[-500:]}")

    def command(self) -> list[str]:
        """What runs the broker in the foreground, also after it was killed (see `settle`). RONDO_KAFKA_JVM replaces
        the flags of the JVM."""
        flags = os.environ.get("RONDO_KAFKA_JVM", "").split() or list(JVM)
        first = [sys.executable, "-m", settle.__name__, str(self.folder)]
        return [*first, *_java(*flags), "kafka.Kafka", str(self.folder / "server.properties")]


def _java(*flags: str) -> list[str]:
    return [jars.find_java(), *flags, "-cp", f"{jars.jars()}/*"]


def ready(port: int) -> bool:
    """True when a broker answers ApiVersions (the handshake that needs nothing else) on the port."""
    client = b"rondo-ready"
    request = struct.pack(">hhih", 18, 0, 1, len(client)) + client
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as s:
            s.settimeout(2.0)
            s.sendall(struct.pack(">i", len(request)) + request)
            head = b""
            while len(head) < 10:
                got = s.recv(10 - len(head))
                if not got:
                    return False
                head += got
    except OSError:
        return False
    _, correlation, error = struct.unpack(">iih", head)
    return bool(correlation == 1 and error == 0)
