"""Records that nobody is waiting for wait for others, a fifth of a second unless the stage says how long, and only while nothing else is to do."""

from typing import Any

import pytest

from rondo_common.streams import loop as loop_module
from rondo_common.streams.decide import StageParts
from rondo_common.streams.inputs import Inputs
from rondo_common.streams.loop import BATCH, Clients, Loop
from rondo_common.streams.owned import Owned
from rondo_common.streams.pace import UNHURRIED_S
from tests.support.stage_driver import ManualClock
from tests.support.toy_stage import ToyStage
from tests.unit.streams.test_streams_gather import Anything

REPORTS = "toy.reports"


class Stage(ToyStage):
    unhurried = frozenset((REPORTS,))

    def __init__(self) -> None:
        super().__init__()
        self.lanes = [[REPORTS], [self.input]]


class Timing:
    """time.monotonic of the loop, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Timing:
    made = Timing()
    monkeypatch.setattr(loop_module, "time", made)
    return made


def _loop(clock: Any = None, stage: ToyStage | None = None, batch: int = BATCH) -> Loop:
    anything: Any = Anything()
    clients = Clients(
        anything, anything, anything, anything, anything, anything, clock or ManualClock(0), anything, None
    )
    loop = Loop(StageParts.of(stage or Stage()), clients, 1, batch)
    loop._inputs.assign({(REPORTS, 0): (0, 0), ("toy.in", 0): (0, 0)})
    loop.owned = {0: Owned(0)}
    loop.owned[0].pending.clear()
    return loop


def _put(inputs: Inputs, topic: str) -> None:
    inputs.queues[topic, 0].records.append(object())  # type: ignore[arg-type]


def test_reports_wait_for_more_but_not_for_ever(timing: Timing) -> None:
    loop = _loop()
    assert not loop._nobody_waits(), "nothing is there: the loop may wait in its poll"
    _put(loop._inputs, REPORTS)
    assert loop._nobody_waits()
    timing.now += UNHURRIED_S / 2
    _put(loop._inputs, REPORTS)
    assert loop._nobody_waits()
    timing.now += UNHURRIED_S / 2 + 0.001
    assert not loop._nobody_waits(), "the first one has waited long enough"
    assert loop._nobody_waits(), "what comes after that batch waits anew"


def test_a_stage_may_say_how_long(timing: Timing) -> None:
    class Patient(Stage):
        unhurried_s = 3.0

    loop = _loop(stage=Patient())
    _put(loop._inputs, REPORTS)
    assert loop._nobody_waits()
    timing.now += 2.9
    assert loop._nobody_waits()
    timing.now += 0.2
    assert not loop._nobody_waits()


def test_a_batch_full_of_them_waits_for_nothing(timing: Timing) -> None:
    loop = _loop(batch=3)
    for _ in range(2):
        _put(loop._inputs, REPORTS)
    assert loop._nobody_waits()
    _put(loop._inputs, REPORTS)
    assert not loop._nobody_waits(), "else who catches up would do a batch in each wait"


def test_a_record_somebody_waits_for_takes_them_along(timing: Timing) -> None:
    loop = _loop()
    _put(loop._inputs, REPORTS)
    assert loop._nobody_waits()
    _put(loop._inputs, "toy.in")
    assert not loop._nobody_waits()


def test_due_timers_and_other_work_do_not_wait(timing: Timing) -> None:
    clock = ManualClock(1_000)
    loop = _loop(clock)
    _put(loop._inputs, REPORTS)
    loop.owned[0].memory.next_due = 1_001
    assert loop._nobody_waits()
    clock.at = 1_001
    assert not loop._nobody_waits()
    loop.owned[0].memory.next_due = None
    loop.owned[0].pending.append(object())  # type: ignore[arg-type]
    assert not loop._nobody_waits()
