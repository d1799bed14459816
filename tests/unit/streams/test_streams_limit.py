"""Dead letters: what they say, and when there are too many."""

import msgspec
import pytest

from rondo_common.stage import Record, Timer
from rondo_common.streams.deadletters import Limit, TooMany, dead_record
from rondo_common.streams.decide import Dead
from tests.support.toy_stage import ToyStage


def test_a_dead_letter_keeps_the_record_and_says_why() -> None:
    record = Record("in", 3, 17, "k", b"\xff raw", 5, {"ce_id": "x"})
    dead = dead_record(ToyStage(), Dead(record, "unreadable", "bad byte"), 3, 1_700_000_000_000)
    headers = dict(dead.headers)
    assert (dead.topic, dead.key, dead.value) == ("in.dlq", "k", b"\xff raw")
    assert headers == {
        "ce_id": b"x",
        "rondo-dlq-reason": b"unreadable",
        "rondo-dlq-detail": b"bad byte",
        "rondo-dlq-topic": b"in",
        "rondo-dlq-partition": b"3",
        "rondo-dlq-offset": b"17",
        "rondo-dlq-stage": b"toy",
        "rondo-dlq-time": b"2023-11-14T22:13:20Z",
    }


def test_a_timers_dead_letter_can_be_read() -> None:
    dead = dead_record(ToyStage(), Dead(Timer("o", "n", 5, b"p"), "handler_error", "x"), 0, 0)
    assert dead.topic == "toy.in.dlq" and dead.key == "o"
    assert msgspec.json.decode(dead.value)["input"] == "Timer"


def test_a_few_are_fine_and_a_flood_halts() -> None:
    limit = Limit(most=100, share=0.05)
    for second in range(50):
        limit.check(second, 100, 2)
        limit.count(second, 100, 2)
    with pytest.raises(TooMany):
        limit.check(51, 500, 400)


def test_a_small_share_never_halts() -> None:
    limit = Limit(most=100, share=0.05)
    for second in range(200):
        limit.check(second, 1000, 40)
        limit.count(second, 1000, 40)


def test_old_ones_are_forgotten() -> None:
    limit = Limit(most=10, share=0.05, seconds=60)
    limit.check(0, 10, 10)
    limit.count(0, 10, 10)
    with pytest.raises(TooMany):
        limit.check(30, 10, 10)
    limit.check(61, 10, 10)
