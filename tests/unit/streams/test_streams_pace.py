"""How long a worker gathers before it commits."""

from itertools import pairwise

from rondo_common.streams.pace import BEHIND_CALLS_S, LEAST_S, MOST_S, gather_s


def test_few_records_are_hardly_held_up_and_many_share_a_transaction():
    assert gather_s(1, more=False) < 0.03
    assert gather_s(100_000, more=False) == MOST_S
    paces = [gather_s(n, more=False) for n in range(0, 500, 10)]
    assert all(a <= b for a, b in pairwise(paces))


def test_with_work_left_over_nothing_is_gathered():
    assert gather_s(100_000, more=True) == LEAST_S
    assert gather_s(100_000, more=True, least=0.1) == 0.1


def test_the_pace_settles_for_any_inflow():
    for a_second in (10, 50, 500, 900, 2_000, 50_000):
        wait = LEAST_S
        for _ in range(200):
            wait = gather_s(round(a_second * wait), more=False)
        again = gather_s(round(a_second * wait), more=False)
        assert abs(again - wait) < 0.01
        if a_second <= 50:
            assert wait < 0.03, "at a few records a second a hop keeps its latency"


def test_calls_under_way_are_waited_for_while_the_line_is_long_and_the_next_ones_are_there_in_time():
    assert gather_s(500, more=True, line_s=60.0) == BEHIND_CALLS_S, "records that have to wait for calls hurry nobody"
    assert gather_s(500, more=True, line_s=0.12) == 0.06
    assert gather_s(500, more=True, line_s=0.0) == LEAST_S, "the effector has nothing to do"
    assert gather_s(1, more=False, line_s=60.0) < 0.03, "one answer is hardly held up"
