"""Stock Faust and Faust inside its fences, side by side under the same kills.

Events go to a topic at a steady rate; two workers of each kind read it, and every few seconds one of them
is killed (-9) and started again. Lost: below the group's committed offset and never done. Repeated: done
more than once, which is what at-least-once means and what handlers are made for.
"""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rondo_cli import broker
from rondo_cli.broker import TopicPartition
from rondo_cli.local import process
from rondo_common import kafka as clients

WORKER = Path(__file__).with_name("worker.py")
PARTITIONS = 6
SETTLE_S = 60.0
FIRST_KILL_S = 1.5
"""While most partitions have no committed offset yet: there stock Faust loses most."""


@dataclass(frozen=True)
class Result:
    """One kind's run. `waiting`: not done, but not committed either, so not lost."""

    kind: str
    n: int
    lost: int
    repeated: int
    waiting: int
    kills: int
    seconds: float

    def line(self) -> str:
        """case, N, lost, repeated, seconds."""
        words = f"{self.kind} Faust, concurrency 8, two workers, {self.kills} x kill -9"
        return f"fences {self.kind:<6} {self.n:>7} {self.lost:>5} {self.repeated:>8} {self.seconds:>7.1f}  {words}"


HEADING = f"{'case':<13} {'N':>7} {'lost':>5} {'repeated':>8} {'seconds':>7}"


class Side:
    """One kind's topic, group, workers and effects."""

    def __init__(self, kind: str, bootstrap: str, folder: Path):
        self.kind, self.bootstrap = kind, bootstrap
        self.topic, self.group = f"fences.{kind}", f"fences-{kind}"
        self._folder = folder
        self._effects: list[Path] = []
        self.workers = [self._start(), self._start()]

    def _start(self) -> "subprocess.Popen[bytes]":
        effects = self._folder / f"{self.kind}{len(self._effects)}.done"
        self._effects.append(effects)
        command = [sys.executable, str(WORKER), self.kind, self.bootstrap, self.topic, self.group, str(effects)]
        return process.spawn(command, self._folder / f"{effects.stem}.log", {"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": "/usr/bin:/bin"})  # fmt: skip

    def kill(self, n: int) -> None:
        """kill -9 a worker; another one takes its seat."""
        process.kill_group(self.workers[n].pid)
        self.workers[n].wait()
        self.workers[n] = self._start()

    def stop(self) -> None:
        for worker in self.workers:
            process.kill_group(worker.pid)
            worker.wait()

    def done(self) -> Counter[int]:
        """How often each event was done. A line that a kill cut short was no effect."""
        counted: Counter[int] = Counter()
        for path in self._effects:
            if path.exists():
                counted.update(int(line) for line in path.read_bytes().split(b"\n")[:-1])
        return counted

    def behind(self) -> int:
        """Events the group has not committed."""
        with broker.admin(self.bootstrap) as client:
            where = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
            ends = broker.ends(client, where)
            done = broker.committed(client, [self.group]).get(self.group, {})
        return sum(ends[tp] - done.get(tp, 0) for tp in where)

    def unfinished(self) -> set[int]:
        """Events that lie behind the committed offsets: not done yet, not lost."""
        with broker.admin(self.bootstrap) as client:
            where = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
            ends = broker.ends(client, where)
            done = broker.committed(client, [self.group]).get(self.group, {})
        found = broker.records(self.bootstrap, {tp: (done.get(tp, 0), ends[tp]) for tp in where})
        return {int(record.value) for record in found}

    def result(self, n: int, kills: int, seconds: float) -> Result:
        done = self.done()
        waiting = self.unfinished()
        lost = set(range(n)) - set(done) - waiting
        return Result(self.kind, n, len(lost), sum(done.values()) - len(done), len(waiting - set(done)), kills, seconds)


def duel(bootstrap: str, folder: Path, n: int = 4_000, rate: int = 200, kill_every_s: float = 3.0) -> list[Result]:
    """Both kinds at once, so that they meet the same machine; the workers of both are killed alike."""
    kinds = ("stock", "safe")
    broker.create_topics(bootstrap, {f"fences.{kind}": (PARTITIONS, 1, {}) for kind in kinds})
    sides = [Side(kind, bootstrap, folder) for kind in kinds]
    begun = time.monotonic()
    kills = 0
    try:
        producer = clients.producer(bootstrap, "fences")
        for side in sides:
            _warm(producer, side)
        first = len(sides[0].workers)
        started = time.monotonic()
        next_kill = started + FIRST_KILL_S
        for number in range(first, n):
            for side in sides:
                producer.produce(side.topic, value=b"%d" % number, partition=number % PARTITIONS)
            producer.poll(0)
            if time.monotonic() >= next_kill:
                for side in sides:
                    side.kill(kills % 2)
                kills, next_kill = kills + 1, time.monotonic() + kill_every_s
            time.sleep(max(0.0, started + (number - first) / rate - time.monotonic()))
        assert producer.flush(60) == 0
        _settle(sides)
        seconds = time.monotonic() - begun
    finally:
        for side in sides:
            side.stop()
    return [side.result(n, kills, seconds) for side in sides]


def _warm(producer: object, side: Side) -> None:
    """Wait until the workers have partitions: two events go through."""
    for number in range(len(side.workers)):
        producer.produce(side.topic, value=b"%d" % number, partition=number % PARTITIONS)  # type: ignore[attr-defined]
    assert producer.flush(30) == 0  # type: ignore[attr-defined]
    deadline = time.monotonic() + SETTLE_S
    while len(side.done()) < len(side.workers):
        assert time.monotonic() < deadline, f"{side.kind}: the workers do not begin"
        time.sleep(0.2)


def _settle(sides: list[Side]) -> None:
    """Until both groups have committed everything, or nothing moves any more."""
    deadline = time.monotonic() + SETTLE_S
    while any(side.behind() for side in sides) and time.monotonic() < deadline:
        time.sleep(0.5)
