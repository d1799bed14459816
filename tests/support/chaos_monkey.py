"""Kills workers with -9 inside open batches and empties Redis, seeded, while a stack is at work.

A worker keeps a small file that says where it is in its batch (rondo_common.streams.marks); the file
outlives it. A victim seen inside a batch is stopped (SIGSTOP), looked at again, and killed only if the
batch is still open: so each kill has its proof.
"""

import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from rondo_common.streams import marks
from tests.support.stack import Stack

OPEN = (marks.WRITE, marks.DECIDE, marks.APPLY)
"""Phases inside a batch; in the first one its transaction is open."""
LOOK_S = 0.3
CALM_S = 4.0
"""Time for a worker that came back to begin to ask what became of the calls its predecessor left open, while their
marks are there."""
ASKED_S = 60.0
"""A busy machine may need this long until all of them are asked about."""
SPOKEN_S = 5.0
"""How long a sender may have nothing to say to an emptied Redis before it is killed all the same."""


@dataclass(frozen=True)
class Kill:
    """A worker killed and the batch that was open then, as its mark still said after its death."""

    service: str
    pid: int
    mark: marks.Mark

    def __str__(self) -> str:
        m = self.mark
        return f"killed {self.service} (pid {self.pid}) in {marks.NAMES[m.phase]} of batch {m.batch}, {m.inputs} inputs"


class Monkey:
    """`folder` is what RONDO_BATCH_MARKS of the stack names."""

    def __init__(self, stack: Stack, folder: Path, seed: int):
        self._stack, self._folder = stack, folder
        self._random = random.Random(seed)
        self.kills: list[Kill] = []
        self.flushes = 0
        self.missed: list[str] = []
        """Victims that had no open batch in time."""

    def kill(self, service: str, patience_s: float = 3.0) -> bool:
        """Kill -9 a worker inside a batch, if it can be had while its transaction is open; False when it had
        no batch in `patience_s`."""
        begun = time.monotonic()
        while (spent := time.monotonic() - begun) < patience_s:
            pid = self._stack.pid(service)
            phases = OPEN[:1] if spent < patience_s / 2 else OPEN
            if pid is not None and self._try(service, pid, phases):
                return True
            time.sleep(0.01)
        self.missed.append(service)
        return False

    def _try(self, service: str, pid: int, phases: Sequence[int]) -> bool:
        until = time.monotonic() + LOOK_S
        while time.monotonic() < until:
            if not self._inside(service, phases):
                time.sleep(0.0005)
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                if stopped(pid) and self._inside(service, phases):
                    os.kill(pid, signal.SIGKILL)
                    self._note(service, pid)
                    return True
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.001 * self._random.random())
        return False

    def _note(self, service: str, pid: int) -> None:
        """Keep what the mark said, and wipe it: the next worker of this name is met by a mark of its own."""
        path = self._folder / f"{service}.0.batch"
        self.kills.append(Kill(service, pid, marks.read(self._folder, service, "0")))
        path.write_bytes(bytes(path.stat().st_size))
        print(self.kills[-1], flush=True)

    def _inside(self, service: str, phases: Sequence[int]) -> bool:
        try:
            mark = marks.read(self._folder, service, "0")
        except (OSError, struct.error):
            return False
        return mark.phase in phases and mark.inputs > 0

    def flush(self) -> None:
        """FLUSHALL under whatever runs."""
        with redis.Redis.from_url(self._stack.redis) as client:
            client.flushall()
        self.flushes += 1
        print(f"flushed Redis ({self.flushes})", flush=True)

    def rage(self, plan: Sequence[str], pause_s: tuple[float, float]) -> threading.Thread:
        """Go through a plan in a thread, with pauses between: names of services to kill, "flush", or "rest",
        which is until all are well again and nobody has to ask about calls of a predecessor any more."""

        def run() -> None:
            for what in plan:
                if what == "flush":
                    self.flush()
                elif what == "rest":
                    self._rest()
                else:
                    self._spoken(what)
                    self.kill(what)
                time.sleep(self._random.uniform(*pause_s))

        thread = threading.Thread(target=run, name="monkey", daemon=True)
        thread.start()
        return thread

    def _rest(self) -> None:
        dead = {kill.service: kill.pid for kill in self.kills}
        self._wait(lambda: all(self._stack.pid(s) not in (None, pid) for s, pid in dead.items()))
        self._stack.wait_ready()
        time.sleep(CALM_S)
        with redis.Redis.from_url(self._stack.redis) as client:
            # a sweep is among the states of its partition until it is through
            self._wait(lambda: not any(client.hexists(k, "~s:leftovers") for k in client.scan_iter("{delivery-*}:s")))
        time.sleep(CALM_S / 4)

    def _spoken(self, service: str) -> None:
        """After a flush a sender makes its marks anew with the next word it has for Redis. Killed before that, it
        leaves all it had written ahead in doubt; that is known, and not what is counted here."""
        with redis.Redis.from_url(self._stack.redis) as client:
            if service.startswith("delivery-"):
                self._wait(lambda: any(client.scan_iter(f"{{{service}:*}}:m:*")), SPOKEN_S)

    @staticmethod
    def _wait(true: Callable[[], bool], patience_s: float = ASKED_S) -> None:
        deadline = time.monotonic() + patience_s
        while not true() and time.monotonic() < deadline:
            time.sleep(0.02)


def stopped(pid: int) -> bool:
    """Wait until SIGSTOP has taken hold of every thread."""
    for _ in range(1000):
        states = set()
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                states.add((task / "stat").read_text().rpartition(")")[2].split()[0])
        if states == {"T"}:
            return True
        time.sleep(0.0005)
    return False
