"""Start a broker of one; first, where it did not end in order, have its death put on record.

    python -m rondo_cli.local.settle FOLDER JAVA [ARGUMENT ...] kafka.Kafka FOLDER/server.properties

A broker that was killed believes at its next start what the metadata say last: that it leads all its
partitions. It takes up the transactions that were open, and while it does so the controller declares
its former self dead, so that no partition has a leader for a moment. Kafka 4.3 takes a partition without
a leader for one that was deleted (KRaftMetadataCache.getPartitionLeaderEndpoint, whose answer
TransactionMarkerChannelManager reads so) and completes the transaction without its markers: then it stays open
in that partition for ever, and nobody who reads committed records gets past it.

So the controller runs alone until it has declared the broker dead, and only then the broker starts: it
finds its partitions without a leader and touches no transaction before it leads them again. While it
runs it is not to be declared dead at all; see SESSION_MS.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rondo_cli.local import process

SESSION_MS = 60_000
"""A running broker that says nothing for so long counts as dead. Alone it has nobody to take over from it, and
being short of CPU, or stopped for a while, is no death."""
DECLARED_MS = 500
"""The same for the controller alone, whose broker is dead for certain."""
LONGEST_S = 60.0
"""Then the broker is started all the same: it can't do worse than without this."""
LEAST_BYTES = 30
"""A partition without a leader takes more than this in the metadata."""
QUIET_S = 0.2
"""For the end of what is being written."""
ALREADY_S = 10.0
"""An active controller that has declared nobody dead by now has done so before."""
_ACTIVE = "Performing controller activation"
_DECLARED = re.compile(r"handleBrokerFenced: changing (\d+) partition")
_TELL = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller=info"
_KEPT = ("node.id", "controller.listener.names", "listener.security.protocol.map", "controller.quorum.voters")


def main(arguments: Sequence[str]) -> None:
    folder, java = Path(arguments[0]), list(arguments[1:])
    if killed(folder):
        settle(folder, java)
    os.execvp(java[0], java)


def killed(folder: Path) -> bool:
    """Whether a broker ran here and did not end in order. Kafka leaves a file when it does, and takes it away when it
    starts."""
    log = folder / "log"
    return (log / "__cluster_metadata-0").exists() and not (log / ".kafka_cleanshutdown").exists()


def settle(folder: Path, java: Sequence[str]) -> None:
    """Run the controller alone until it has declared the broker dead, and that is written."""
    config, said = folder / "settle.properties", folder / "settle.out"
    config.write_text("".join(f"{k}={v}\n" for k, v in _alone(java[-1]).items()))
    before = _written(folder)
    with said.open("wb") as out:
        controller = subprocess.Popen(
            [java[0], _TELL, *java[1:-1], str(config)], stdout=out, stderr=out, preexec_fn=process.in_child()
        )
        _wait(controller, folder, said, before)
        controller.kill()  # in order it would take longer, and nothing is left to write
        controller.wait()


def _wait(controller: "subprocess.Popen[bytes]", folder: Path, said: Path, before: int) -> None:
    began, active = time.monotonic(), None
    while controller.poll() is None:
        text, now = said.read_text(errors="replace"), time.monotonic()
        if active is None and _ACTIVE in text:
            active = now
        declared = _DECLARED.search(text)
        if declared and _written(folder) - before >= LEAST_BYTES * int(declared[1]):
            time.sleep(QUIET_S)
            return
        if now - began > LONGEST_S or (not declared and active is not None and now - active > ALREADY_S):
            return
        time.sleep(0.05)


def _written(folder: Path) -> int:
    """Bytes of the metadata. What the controller says has been decided is there a moment later, on a busy machine
    seconds."""
    return sum(part.stat().st_size for part in (folder / "log" / "__cluster_metadata-0").glob("*.log"))


def _alone(properties: str) -> dict[str, str]:
    """What the controller is told, out of what the broker is."""
    lines = Path(properties).read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    name = told["controller.listener.names"]
    return {
        **{key: told[key] for key in _KEPT},
        "process.roles": "controller",
        "listeners": next(at for at in told["listeners"].split(",") if at.startswith(f"{name}://")),
        "log.dirs": told["log.dirs"],
        "broker.session.timeout.ms": str(DECLARED_MS),
        "broker.heartbeat.interval.ms": str(DECLARED_MS // 4),
        "metadata.max.idle.interval.ms": "0",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
