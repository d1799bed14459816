"""The watchdog: a partition with work whose committed offset stays is found; nothing else is."""

import asyncio

from faust.types import TP

from rondo_common.faust_watch import Stuck, positions, watch

ONE, TWO = TP("t", 0), TP("t", 1)


def test_standing_still_with_work_is_found():
    stuck = Stuck(30)
    assert stuck.look({ONE: (5, 9), TWO: (9, 9)}, 0) is None
    assert stuck.look({ONE: (5, 9), TWO: (9, 9)}, 29) is None
    assert stuck.look({ONE: (5, 9), TWO: (9, 9)}, 30) == ONE


def test_moving_idling_and_leaving_are_not():
    stuck = Stuck(30)
    for now in range(0, 300, 10):
        assert stuck.look({ONE: (now, 1000), TWO: (9, 9)}, now) is None
    assert stuck.look({TWO: (9, 50)}, 300) is None, "work has only just come"
    assert stuck.look({}, 310) is None
    assert stuck.look({TWO: (9, 50)}, 340) is None, "the partition was away meanwhile"
    assert stuck.look({TWO: (9, 50)}, 370) == TWO


class Consumer:
    """A Faust consumer as far as the watchdog looks."""

    def __init__(self):
        self._committed_offset, self._first, self.ends = {ONE: 5, TWO: None}, {}, {ONE: 9, TWO: 4}

    def assignment(self):
        return {ONE, TWO}

    def highwater(self, tp):
        return self.ends[tp]


def test_where_a_consumer_stands():
    consumer = Consumer()
    assert positions(consumer) == {ONE: (5, 9)}
    consumer._first[TWO] = 2
    assert positions(consumer) == {ONE: (5, 9), TWO: (2, 4)}
    consumer.ends[ONE] = None
    assert positions(consumer) == {TWO: (2, 4)}


async def test_it_ends_the_process():
    consumer, ended, time = Consumer(), [], iter(range(1000))
    running = watch(lambda: consumer, seconds=10, every=0.001, end=ended.append, clock=lambda: float(next(time)))
    await asyncio.wait_for(running, 20)
    assert ended == [1]
