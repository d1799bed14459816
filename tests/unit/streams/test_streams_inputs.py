"""Lanes, offsets, waiting and the horizon of timers, without Kafka."""

from typing import Any

import pytest

from rondo_common.stage import Record
from rondo_common.streams.inputs import WAIT_MAX_S, Inputs
from tests.support.toy_stage import ToyStage

T = 1_000


def record(topic: str, partition: int, offset: int, time: int = T) -> Record:
    return Record(topic, partition, offset, "k", b"{}", time)


class Lanes(ToyStage):
    def __init__(self) -> None:
        super().__init__()
        self.lanes = [["commands"], ["high"], ["low", "low2"]]
        self.lane_limit = {2: 5}


@pytest.fixture
def inputs() -> Inputs:
    made = Inputs(Lanes(), 20, effects=False)
    made.assign({(t, p): (0, 0) for t in ("commands", "high", "low", "low2") for p in (0, 1)})
    return made


def fill(inputs: Inputs, topic: str, partition: int, count: int, time: int = T) -> None:
    queue = inputs.queues[topic, partition]
    start = queue.records[-1].offset + 1 if queue.records else queue.next
    queue.records.extend(record(topic, partition, start + i, time + i) for i in range(count))


def chosen(inputs: Inputs, live: Any = (0,), capacity: int = 1000) -> list[tuple[str, int]]:
    found = inputs.select(live, 0.0, capacity)
    return [(r.topic, r.offset) for p in sorted(found) for r in found[p]]


def test_higher_lanes_come_first(inputs: Inputs) -> None:
    fill(inputs, "low", 0, 2)
    fill(inputs, "high", 0, 2)
    fill(inputs, "commands", 0, 1)
    assert chosen(inputs) == [("commands", 0), ("high", 0), ("high", 1), ("low", 0), ("low", 1)]


def test_a_lower_lane_pauses_while_a_higher_one_has_more_than_fits(inputs: Inputs) -> None:
    fill(inputs, "high", 0, 21)
    fill(inputs, "low", 0, 1)
    assert {topic for topic, _ in chosen(inputs)} == {"high"}


def test_a_lower_lane_waits_until_the_higher_one_has_caught_up_after_an_assignment() -> None:
    inputs = Inputs(Lanes(), 20, effects=False)
    inputs.assign({("commands", 0): (0, 10), ("high", 0): (0, 0), ("low", 0): (0, 0), ("low2", 0): (0, 0)})
    fill(inputs, "low", 0, 1)
    assert chosen(inputs) == []
    inputs.queues["commands", 0].at_end(10)
    assert chosen(inputs) == [("low", 0)]


def test_a_lane_has_its_limit_per_batch(inputs: Inputs) -> None:
    fill(inputs, "low", 0, 9)
    fill(inputs, "low", 1, 9)
    assert len(chosen(inputs, (0, 1))) == 5


def test_the_effectors_capacity_bounds_the_lanes_that_make_tasks() -> None:
    inputs = Inputs(Lanes(), 20, effects=True)
    inputs.assign({(t, 0): (0, 0) for t in ("commands", "high", "low", "low2")})
    for topic in ("commands", "high", "low"):
        fill(inputs, topic, 0, 3)
    assert chosen(inputs, capacity=4) == [("commands", i) for i in range(3)] + [
        ("high", 0),
        ("high", 1),
        ("high", 2),
        ("low", 0),
    ]
    assert {t for t, _ in chosen(inputs, capacity=0)} == {"commands"}


def test_what_the_first_lane_says_takes_effect_first_where_the_stage_wants_that() -> None:
    stage = Lanes()
    stage.first_alone = True  # type: ignore[attr-defined]
    inputs = Inputs(stage, 20, effects=True)
    inputs.assign({(t, 0): (0, 0) for t in ("commands", "high", "low", "low2")})
    fill(inputs, "high", 0, 2)
    fill(inputs, "commands", 0, 2)
    assert chosen(inputs) == [("commands", 0), ("commands", 1)]
    inputs.queues["commands", 0].take(2)
    assert chosen(inputs) == [("high", 0), ("high", 1)]


def test_partitions_that_are_not_live_are_left_out(inputs: Inputs) -> None:
    fill(inputs, "high", 0, 1)
    fill(inputs, "high", 1, 1)
    assert chosen(inputs, (1,)) == [("high", 0)]


def test_records_stay_until_they_are_done(inputs: Inputs) -> None:
    fill(inputs, "high", 0, 3)
    assert chosen(inputs) == chosen(inputs)
    queue = inputs.queues["high", 0]
    queue.take(2)
    assert queue.next == 2 and queue.committed == 2 and chosen(inputs) == [("high", 2)]


def test_the_next_offset_steps_over_markers_only_when_nothing_is_left(inputs: Inputs) -> None:
    fill(inputs, "high", 0, 2)
    queue = inputs.queues["high", 0]
    queue.at_end(5)
    assert queue.next == 0
    queue.take(1)
    assert queue.next == 1
    queue.take(1)
    assert queue.next == 5 and queue.committed == 2


def test_what_waits_holds_its_topic_only_and_longer_each_time(inputs: Inputs) -> None:
    fill(inputs, "high", 0, 1)
    fill(inputs, "low", 0, 1)
    queue = inputs.queues["high", 0]
    waits = []
    for _ in range(10):
        queue.hold(100.0)
        waits.append(queue.held_until - 100.0)
    assert waits == sorted(waits) and waits[-1] == WAIT_MAX_S
    assert chosen(inputs) == [("low", 0)]
    inputs.release(0)
    assert chosen(inputs) == [("high", 0), ("low", 0)]


def test_timers_wait_for_older_records(inputs: Inputs) -> None:
    assert inputs.horizon(0, 0.0) is None
    fill(inputs, "low", 0, 2, time=T + 500)
    fill(inputs, "high", 0, 1, time=T + 700)
    assert inputs.horizon(0, 0.0) == T + 500
    inputs.queues["low", 0].hold(0.0)
    assert inputs.horizon(0, 0.0) == T + 700
    assert inputs.horizon(1, 0.0) is None


def test_timers_wait_until_the_backlog_is_known() -> None:
    inputs = Inputs(Lanes(), 20, effects=False)
    inputs.assign({("commands", 0): (3, 3), ("high", 0): (3, 9), ("low", 0): (0, 0), ("low2", 0): (0, 0)})
    assert inputs.horizon(0, 0.0) == -1
    queue = inputs.queues["high", 0]
    fill(inputs, "high", 0, 2, time=T)
    queue.take(2)
    assert inputs.horizon(0, 0.0) == T + 1
    queue.at_end(9)
    assert inputs.horizon(0, 0.0) is None


def test_crowded_queues_are_paused_and_resumed_later(inputs: Inputs) -> None:
    fill(inputs, "low", 0, 20)
    (queue,) = inputs.crowded()
    queue.paused = True
    assert not list(inputs.crowded()) and not list(inputs.thirsty())
    queue.take(18)
    assert list(inputs.thirsty()) == [queue]
