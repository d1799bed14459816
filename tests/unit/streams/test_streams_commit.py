"""Transactions against every kind of failure (STREAMS 9), and never without a fence (STREAMS 3)."""

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from rondo_common.streams import commit, watchdog
from rondo_common.streams.commit import Aborted, Fatal, Transactions

OFFSETS = [TopicPartition("t", 0, 5)]


def error(retriable: bool = False, abort: bool = False, fatal: bool = False) -> KafkaException:
    return KafkaException(
        KafkaError(KafkaError._TIMED_OUT, "told to", fatal=fatal, retriable=retriable, txn_requires_abort=abort)
    )


class FakeProducer:
    """Fails as told: `fail[method]` is a list of exceptions for its next calls."""

    def __init__(self, **fail: list[BaseException]):
        self.calls: list[str] = []
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> None:
            self.calls.append(name)
            if self._fail.get(name):
                raise self._fail[name].pop(0)

        return call


def run(producer: FakeProducer, write: Any = None, offsets: Any = OFFSETS) -> None:
    Transactions(producer).run(write or (lambda p: p.produce()), offsets, "group")  # type: ignore[arg-type]


ALL = ["begin_transaction", "produce", "flush", "send_offsets_to_transaction", "commit_transaction"]
"""Flushed before the offsets are sent: see `Transactions._flush`."""


def test_in_order() -> None:
    p = FakeProducer()
    run(p)
    assert p.calls == ALL


def test_records_that_are_not_taken_abort_before_the_group_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "FLUSH_S", 0.0)
    p = FakeProducer()
    left = iter([3, 3])
    p.flush = lambda _: next(left)  # type: ignore[attr-defined]
    with pytest.raises(Aborted, match="did not take"):
        run(p)
    assert p.calls == ["begin_transaction", "produce", "abort_transaction"]


def test_a_retriable_commit_is_asked_again_and_never_aborted() -> None:
    p = FakeProducer(commit_transaction=[error(retriable=True), error(retriable=True)])
    run(p)
    assert p.calls == [*ALL, "commit_transaction", "commit_transaction"]


@pytest.mark.parametrize("where", ["send_offsets_to_transaction", "commit_transaction"])
def test_an_abortable_error_aborts(where: str) -> None:
    p = FakeProducer(**{where: [error(abort=True)]})
    with pytest.raises(Aborted):
        run(p)
    assert p.calls[-1] == "abort_transaction"


@pytest.mark.parametrize("where", ["begin_transaction", "send_offsets_to_transaction", "commit_transaction"])
def test_fenced_ends_the_process(where: str) -> None:
    p = FakeProducer(**{where: [error(fatal=True)]})
    with pytest.raises(Fatal):
        run(p)
    assert "abort_transaction" not in p.calls


def test_a_failing_write_leaves_nothing() -> None:
    p = FakeProducer()

    def write(_: Any) -> None:
        raise RuntimeError("told to")

    with pytest.raises(RuntimeError):
        run(p, write)
    assert p.calls == ["begin_transaction", "abort_transaction"]


def test_an_abort_that_can_be_repeated_is() -> None:
    p = FakeProducer(commit_transaction=[error(abort=True)], abort_transaction=[error(retriable=True)])
    with pytest.raises(Aborted):
        run(p)
    assert p.calls[-2:] == ["abort_transaction", "abort_transaction"]


def test_without_offsets_it_does_not_even_begin() -> None:
    p = FakeProducer()
    with pytest.raises(Fatal, match="not fenced"):
        run(p, offsets=[])
    assert p.calls == []


def test_a_call_that_does_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka may hang in a call whatever time-out it was given; a watchdog then ends the process."""
    monkeypatch.setattr(commit, "HUNG_S", 0.05)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    release, ended, codes = threading.Event(), threading.Event(), []

    class Hangs(FakeProducer):
        def send_offsets_to_transaction(self, *_: Any) -> None:
            release.wait(10)

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    transactions = Transactions(Hangs())  # type: ignore[arg-type]
    assert transactions.hung() is None
    watchdog.Watchdog("toy", transactions, end, 1)
    worker = threading.Thread(target=lambda: transactions.run(lambda p: None, OFFSETS, "group"))
    worker.start()
    assert ended.wait(10)
    assert codes == [1] and transactions.hung() == "offsets"
    release.set()
    worker.join()
    assert transactions.hung() is None


def test_a_close_that_does_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "CLOSE_S", 0.05)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    codes: list[int] = []
    for is_over in (True, False):
        dog = watchdog.Watchdog("toy", Transactions(FakeProducer()), codes.append, 1)  # type: ignore[arg-type]
        dog.closing()
        if is_over:
            dog.over()
        time.sleep(0.5)
        assert codes == [1] * (not is_over)
