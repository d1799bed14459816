"""A broker whose disk can be filled: its folder is a small tmpfs in a mount namespace of its own."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rondo_cli.local import kafka as local_kafka
from rondo_cli.local import ports
from tests.support.servers import Running

SIZE = "256m"


class NoNamespaces(RuntimeError):
    """The kernel does not let this user have a mount namespace."""


class Room:
    """The namespace, kept by a process that lives as long as ours; `folder` is the small disk inside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # `cat` ends with our end of its pipe
        script = f"mount -t tmpfs -o size={SIZE} none {shlex.quote(str(folder))} && echo there && exec cat"
        self._keeper = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout
        if self._keeper.stdout.readline() != "there\n":
            raise NoNamespaces("no mount namespace can be made here (unshare -rm)")

    def inside(self, command: list[str]) -> list[str]:
        """The command, run in it."""
        return ["nsenter", "-t", str(self._keeper.pid), "-U", "-m", "--preserve-credentials", "--", *command]

    def fill(self) -> None:
        """Leave no byte free."""
        ballast = shlex.quote(str(self.folder / "ballast"))
        subprocess.run(
            self.inside(["sh", "-c", f"cat /dev/zero > {ballast}"]), stderr=subprocess.DEVNULL, timeout=60, check=False
        )

    def free(self) -> None:
        """Give the space back."""
        subprocess.run(self.inside(["rm", "-f", str(self.folder / "ballast")]), timeout=20, check=True)

    def close(self) -> None:
        assert self._keeper.stdin
        self._keeper.stdin.close()
        self._keeper.wait(10)


@dataclass(frozen=True)
class SmallBroker(local_kafka.Broker):
    """A broker that lives in a Room."""

    room: Room | None = None

    def format(self) -> None:
        """Write its configuration and format its folder, both inside."""
        assert self.room
        text = "".join(f"{k}={v}\n" for k, v in sorted(self.properties().items()))
        config = str(self.folder / "server.properties")
        subprocess.run(
            self.room.inside(["sh", "-c", f"cat > {shlex.quote(config)}"]), input=text, text=True, check=True
        )
        java = super().command()
        tool = [*java[:-2], "kafka.tools.StorageTool", "format", "-t", "c3RyZXNzLXNtYWxsLWRpc2s", "-c", config]
        subprocess.run(self.room.inside(tool), capture_output=True, timeout=120, check=True)

    def command(self) -> list[str]:
        assert self.room
        return self.room.inside(super().command())


def start(folder: Path) -> tuple[Running, SmallBroker]:
    """A broker on a small disk; `broker.room` fills it."""
    port, controller = ports.free_ports(2)
    where = SmallBroker(folder / "disk", port, controller, Room(folder / "disk"))
    where.format()
    return Running("kafka", where.command(), port, folder / "kafka.out", local_kafka.ready), where
