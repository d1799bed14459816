"""Kill -9 inside open batches, flushes under live workers, a broker that dies: the counts stay exact.

The oracle knows what was sent. State, log and every output must agree with it to the last record:
each key's emitted counts are 1, 2, 3 ... without a hole or a repeat.
"""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message

from rondo_common import kafka as clients
from rondo_common.streams import marks
from rondo_common.streams.runtime import FAILED, group_of
from tests.support.chaos_monkey import stopped
from tests.support.servers import start_kafka
from tests.support.stream_rig import Feeder, Rig, wait_until
from tests.support.toy_stage import ToyStage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
SEED = 20261121
START_S = 60.0
"""A busy machine takes this long until a worker that was killed is at work again."""


class Fleet:
    """Worker processes of one rig, restarted when they die, each in its slot."""

    def __init__(self, rig: Rig, folder: Path, size: int):
        self.rig, self.folder, self.size = rig, folder, size
        self.log = open(folder / "workers.log", "ab")  # noqa: SIM115
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: list[tuple[str, marks.Mark]] = []
        self.ended: list[int] = []

    def keep(self) -> None:
        """Start what is not running."""
        for number in range(self.size):
            slot = str(number)
            child = self.children.get(slot)
            if child is not None and child.poll() is None:
                continue
            if child is not None:
                self.ended.append(child.returncode)
            (self.folder / f"{self.rig.stage.name}.{slot}.batch").unlink(missing_ok=True)
            args = [self.rig.stage.name, self.rig.kafka, self.rig.redis_url, slot, str(self.folder)]
            env = os.environ | {
                marks.VARIABLE: str(self.folder),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "libs/common"), str(ROOT / "libs/cli")]),
            }
            self.children[slot] = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("toy_worker.py")), *args, str(self.rig.partitions)],
                env=env,
                stdout=self.log,
                stderr=self.log,
            )

    def mark(self, slot: str) -> marks.Mark:
        try:
            return marks.read(self.folder, self.rig.stage.name, slot)
        except (OSError, struct.error):
            return marks.Mark(marks.IDLE, 0, 0)

    def kill_inside(self, slot: str, phase: int, patience: float = 10.0) -> bool:
        """Kill -9 the worker while its mark says `phase`, with records in the batch. It is stopped first and looked
        at again: on a busy machine the batch may be over by then, and the kill would prove nothing."""
        child = self.children[slot]
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and child.poll() is None:
            if not self._inside(slot, phase):
                time.sleep(0.0005)  # a core less for the worker otherwise
                continue
            child.send_signal(signal.SIGSTOP)
            if stopped(child.pid) and self._inside(slot, phase):
                child.kill()
                child.wait()
                self.kills.append((slot, self.mark(slot)))
                return True
            child.send_signal(signal.SIGCONT)
        return False

    def _inside(self, slot: str, phase: int) -> bool:
        mark = self.mark(slot)
        return mark.phase == phase and mark.inputs > 0

    def stop(self) -> None:
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.log.close()


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Path) -> Rig:
    return Rig(kafka, redis_url, stage=ToyStage(f"chaos-{time.time_ns()}", log=0), data_dir=str(tmp_path))


@pytest.fixture
def fleet(rig: Rig, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(rig, tmp_path, 2)
    made.keep()
    yield made
    made.stop()


def _exact(rig: Rig, fleet: Fleet, sent: Counter[str]) -> None:
    rig.check_sent(sent)

    def drained() -> bool:
        fleet.keep()
        return not any(rig.lag().values())

    wait_until(drained, "drained", 150)
    rig.check_exact(dict(sent))


def test_kills_inside_open_batches_and_flushes_change_nothing(rig: Rig, fleet: Fleet) -> None:
    """At least ten kills of workers with an open batch, in each of its phases, and six flushes."""
    rnd = random.Random(SEED)
    keys = [f"k{i}" for i in range(200)]
    feeder = Feeder(rig, 1_500, keys)
    feeder.start()
    flushes = 0
    phases = [marks.DECIDE, marks.WRITE, marks.APPLY] * 4
    rnd.shuffle(phases)
    for n, phase in enumerate(phases):
        fleet.keep()
        slot = str(rnd.randrange(fleet.size))
        fleet.kill_inside(slot, phase, START_S)
        if n % 2:
            rig.flush_redis()
            flushes += 1
        fleet.keep()
        time.sleep(rnd.uniform(0.1, 0.5))
    sent = feeder.finish()
    for slot, mark in fleet.kills:
        print(f"killed slot {slot} in {marks.NAMES[mark.phase]} of batch {mark.batch} with {mark.inputs} inputs")
    open_batches = [m for _, m in fleet.kills if m.phase != marks.IDLE]
    assert len(open_batches) >= 10 and flushes >= 5
    assert {m.phase for m in open_batches} == {marks.DECIDE, marks.WRITE, marks.APPLY}
    _exact(rig, fleet, sent)


@pytest.mark.parametrize("rate", [20, 3_000])
def test_flushes_under_live_workers_lose_nothing(rig: Rig, fleet: Fleet, rate: int) -> None:
    feeder = Feeder(rig, rate, [f"k{i}" for i in range(50)])
    feeder.start()
    wait_until(lambda: sum(len(v) for v in rig.steps().values()) > 5, "it runs")
    for _ in range(6):
        rig.flush_redis()
        time.sleep(0.3)
    sent = feeder.finish()
    _exact(rig, fleet, sent)
    assert fleet.ended == [], "a flush ended a worker"


def test_a_worker_that_was_stopped_and_comes_back_does_no_harm(rig: Rig, fleet: Fleet) -> None:
    """SIGSTOP for longer than the session: its partitions go to the other; back again, it must not commit."""
    feeder = Feeder(rig, 500, [f"k{i}" for i in range(50)])
    feeder.start()
    wait_until(lambda: sum(len(v) for v in rig.steps().values()) > 50, "it runs")
    victim = fleet.children["0"]
    wait_until(lambda: fleet.mark("0").phase in (marks.DECIDE, marks.WRITE) and fleet.mark("0").inputs, "in a batch")
    victim.send_signal(signal.SIGSTOP)
    wait_until(lambda: _all_progress(rig, fleet), "the other has taken over", 40)
    victim.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    sent = feeder.finish()
    _exact(rig, fleet, sent)


def test_a_stopped_worker_whose_slot_was_taken_does_not_stand_idle(rig: Rig, tmp_path: Path) -> None:
    """It comes back to a session that is over and a slot that is somebody else's. The client tells the second once,
    mostly in the same poll as the first: a worker that missed it would neither work nor end for ever. It ends and is
    started again, or is back before it hears of it and takes the slot in its turn."""
    fleet = Fleet(rig, tmp_path, 1)
    fleet.keep()
    try:
        rig.ask("a")
        rig.settle()
        victim = fleet.children["0"]
        victim.send_signal(signal.SIGSTOP)
        taker = clients.group_consumer(rig.kafka, group_of(rig.stage.name), f"{rig.stage.name}.0")
        taker.subscribe([rig.stage.input])
        wait_until(lambda: taker.poll(0.1) is None and taker.assignment(), "the slot is taken")
        time.sleep(1.5 * clients.SESSION_MS / 1000)
        victim.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + START_S
        while victim.poll() is None and not _fatal(taker.poll(0.1)) and time.monotonic() < deadline:
            pass
        taker.close()
        rig.ask("a")
        rig.flush()
        _exact(rig, fleet, Counter(a=2))
        assert fleet.ended in ([], [FAILED])
    finally:
        fleet.stop()


def _fatal(message: Message | None) -> bool:
    return message is not None and message.error() is not None and message.error().code() == KafkaError._FATAL


def _all_progress(rig: Rig, fleet: Fleet) -> bool:
    before = rig.committed()
    time.sleep(1.0)
    after = rig.committed()
    return len(after) == rig.partitions and all(after[p] > before.get(p, -1) for p in after)


def test_a_broker_that_dies_and_comes_back_makes_no_crash_loop(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    server, _ = start_kafka(tmp_path / "kafka")
    try:
        rig = Rig(
            f"127.0.0.1:{server.port}",
            redis_url,
            stage=ToyStage(f"broker-{time.time_ns()}", log=0),
            data_dir=str(tmp_path),
        )
        fleet = Fleet(rig, tmp_path, 2)
        fleet.keep()
        try:
            feeder = Feeder(rig, 200, [f"k{i}" for i in range(50)])
            feeder.start()
            wait_until(lambda: sum(len(v) for v in rig.steps().values()) > 50, "it runs")
            server.kill()
            time.sleep(1.0)
            server.start()
            sent = feeder.finish()
            _exact(rig, fleet, sent)
            # a transaction that was open may have been timed out by the broker: then its worker is fenced and
            # starts again, once; more would be a crash loop
            assert len(fleet.ended) <= 2 * fleet.size
        finally:
            fleet.stop()
    finally:
        server.stop()
