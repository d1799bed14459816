"""Where a worker is in its batch, readable by others, for tests that kill it there.

With RONDO_BATCH_MARKS=<folder> each worker keeps a small mapped file `<stage>.<slot>.batch` there:
phase, number of the batch, inputs in it. Without it this costs nothing.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

VARIABLE = "RONDO_BATCH_MARKS"
IDLE, DECIDE, WRITE, APPLY = range(4)
NAMES = ("idle", "decide", "write", "apply")
_FORM = struct.Struct("<qqq")


class Mark(NamedTuple):
    """`phase` is one of IDLE, DECIDE, WRITE (the transaction is open), APPLY (committed, not yet in Redis)."""

    phase: int
    batch: int
    inputs: int


class Marks:
    """Writes one worker's mark."""

    def __init__(self, stage: str, slot: str):
        folder = os.environ.get(VARIABLE)
        self._map: mmap.mmap | None = None
        self._batch = 0
        self._inputs = 0
        if folder:
            path = Path(folder) / f"{stage}.{slot}.batch"
            path.write_bytes(_FORM.pack(IDLE, 0, 0))
            with open(path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), _FORM.size)

    def begin(self, inputs: int) -> None:
        if self._map is not None:
            self._batch += 1
            self._inputs = inputs
            self.phase(DECIDE)

    def phase(self, phase: int) -> None:
        if self._map is not None:
            self._map[:] = _FORM.pack(phase, self._batch, self._inputs)


def read(folder: str | Path, stage: str, slot: str) -> Mark:
    """The mark of a worker, dead or alive."""
    return Mark(*_FORM.unpack((Path(folder) / f"{stage}.{slot}.batch").read_bytes()))
