"""One log stream of all processes: the ends of the files in .rondo/logs, each line under its name."""

import asyncio
import sys
from pathlib import Path
from typing import TextIO

EVERY_S = 0.3
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Follower:
    """Prints what is added to the log files from now on, and what the supervisor says."""

    def __init__(self, folder: Path, out: TextIO | None = None):
        self._folder = folder
        self._out = out or sys.stdout
        self._colour = self._out.isatty()
        self._at = {p: p.stat().st_size for p in folder.glob("*.log")} if folder.is_dir() else {}

    def say(self, text: str) -> None:
        """A line of the supervisor's own."""
        self._print("rondo", text, 1)

    def _print(self, name: str, text: str, colour: int) -> None:
        label = f"{name:<20}"
        self._out.write(f"\x1b[{colour}m{label}\x1b[0m {text}\n" if self._colour else f"{label} {text}\n")
        self._out.flush()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.flush()
            await asyncio.sleep(EVERY_S)

    def flush(self) -> None:
        """Print what is new."""
        for path in sorted(self._folder.glob("*.log")):
            if path.name == "up.log":
                continue
            begin, size = self._at.get(path, 0), path.stat().st_size
            if size < begin:
                begin = 0  # rotated
            if size > begin:
                with path.open("rb") as f:
                    f.seek(begin)
                    data = f.read(size - begin)
                cut = data.rfind(b"\n") + 1
                self._at[path] = begin + cut
                colour = COLOURS[sum(path.stem.encode()) % len(COLOURS)]
                for line in data[:cut].decode(errors="replace").splitlines():
                    self._print(path.stem, line, colour)
