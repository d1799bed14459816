"""What the loop takes from a poll that also brought a rebalance (STREAMS 3), with a consumer that does so."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from rondo_common.streams import partitions as partitions_module
from rondo_common.streams.commit import Fatal
from rondo_common.streams.decide import StageParts
from rondo_common.streams.loop import Clients, Loop
from tests.support.stage_driver import ManualClock
from tests.support.toy_stage import ToyStage


class FakeMessage:
    def __init__(self, partition: int, offset: int):
        self._at = partition, offset

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "toy.in"

    def partition(self) -> int:
        return self._at[0]

    def offset(self) -> int:
        return self._at[1]

    def key(self) -> bytes:
        return b"a"

    def value(self) -> bytes:
        return b'{"key":"a"}'

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000


class Anything:
    """Takes every call; `active` and the like are false."""

    active = False

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class FakeConsumer(Anything):
    def __init__(self) -> None:
        self.polls: list[Any] = []
        self.calls: list[tuple[str, Any]] = []
        self.rebalance: Any = None

    def poll(self, timeout: float) -> Any:
        self.calls.append(("poll", timeout))
        return FakeMessage(0, 0)

    def consume(self, count: int, timeout: float) -> list[Any]:
        self.calls.append(("consume", timeout))
        if self.rebalance:
            self.rebalance()
        return [FakeMessage(0, 1), FakeMessage(0, 2)]


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def loop(consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(partitions_module, "bounds", lambda *_: {("toy.in", 0): (0, 0)})
    fake: Any = Anything()
    made = Loop(StageParts.of(ToyStage()), Clients(consumer, fake, fake, fake, fake, fake, ManualClock(1), fake), 1)  # type: ignore[arg-type]
    give(made, consumer)
    return made


def give(loop: Loop, consumer: FakeConsumer) -> None:
    class Place:
        topic, partition = "toy.in", 0

    loop._on_assign(consumer, [Place()])  # type: ignore[arg-type, list-item]


def offsets(loop: Loop) -> list[int]:
    return [r.offset for r in loop._inputs.queues["toy.in", 0].records]


def test_it_waits_by_poll_and_then_takes_what_is_there(loop: Loop, consumer: FakeConsumer) -> None:
    loop._gather()
    assert consumer.calls == [("poll", partitions_module.IDLE_S), ("consume", 0)]
    assert offsets(loop) == [0, 1, 2]


def test_records_that_come_with_a_rebalance_are_dropped(loop: Loop, consumer: FakeConsumer) -> None:
    def rebalance() -> None:
        loop._on_revoke(consumer, [])  # type: ignore[arg-type]
        give(loop, consumer)

    consumer.rebalance = rebalance
    loop._gather()
    assert offsets(loop) == []
    consumer.rebalance = None
    loop._gather()
    assert offsets(loop) == [0, 1, 2]


def test_a_failed_assignment_comes_out_of_the_loop(loop: Loop, consumer: FakeConsumer, monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("told to")

    monkeypatch.setattr(partitions_module, "bounds", fail)
    consumer.rebalance = lambda: give(loop, consumer)
    with pytest.raises(RuntimeError, match="told to"):
        loop._gather()


class Failed(FakeMessage):
    code, text = KafkaError._FATAL, "fenced"

    def error(self) -> KafkaError:  # type: ignore[override]
        return KafkaError(self.code, self.text)


@pytest.mark.parametrize("lost", [False, True])
def test_a_fenced_consumer_ends_the_worker(loop: Loop, consumer: FakeConsumer, lost: bool) -> None:
    """librdkafka tells it as a message with the code _FATAL whose `fatal()` is false; once only, and mostly in the
    same poll that takes the partitions away."""

    def poll(timeout: float) -> Failed:
        if lost:
            loop._on_lost(consumer, [])  # type: ignore[arg-type]
        return Failed(0, 0)

    consumer.poll = poll  # type: ignore[method-assign]
    with pytest.raises(Fatal, match="fenced"):
        loop._gather()


def test_other_errors_of_an_assignment_that_is_gone_do_not_count(loop: Loop, consumer: FakeConsumer) -> None:
    class Deleted(Failed):
        code, text = KafkaError._AUTO_OFFSET_RESET, "gone"

    consumer.poll = lambda timeout: Deleted(0, 0)  # type: ignore[method-assign]
    with pytest.raises(Fatal, match="gone"):
        loop._gather()
    consumer.rebalance = lambda: loop._on_revoke(consumer, [])  # type: ignore[arg-type]
    loop._gather()
