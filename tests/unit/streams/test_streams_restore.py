"""A restore's steps: bounded by bytes, not only by records, so that large states don't fill the worker's memory."""

from collections.abc import Iterator, Sequence

import pytest

from rondo_common import kafka
from rondo_common.streams.restore import CHUNK, FIRST_CHUNK, STEP_BYTES, Done, Origin, Restorer
from rondo_common.streams.store import Applied, Meta


class FakeMessage:
    def __init__(self, offset: int, value: bytes | None):
        self._offset, self._value = offset, value

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"m:%d" % self._offset

    def value(self) -> bytes | None:
        return self._value


class Log:
    """The reader of a log of values; notes how many records it was asked for."""

    def __init__(self, values: Sequence[bytes | None]):
        self._left = [FakeMessage(i, value) for i, value in enumerate(values)]
        self.asked: list[int] = []

    def incremental_assign(self, partitions: list) -> None: ...

    def incremental_unassign(self, partitions: list) -> None: ...

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        self.asked.append(count)
        taken, self._left = self._left[:count], self._left[count:]
        return taken


class Views:
    """A store that is empty at first; the states it was given."""

    def __init__(self) -> None:
        self.states: dict[str, bytes | None] = {}

    def meta(self, partition: int) -> Meta:
        return Meta("", "", "", 0)

    def wipe(self, *of: object) -> None: ...

    def apply(self, changes: dict) -> dict[int, Applied]:
        for change in changes.values():
            self.states.update(change.states)
        return dict.fromkeys(changes, Applied(0, None))


def restored(values: Sequence[bytes | None], monkeypatch: pytest.MonkeyPatch) -> Log:
    """A restore of one partition, to its end."""
    monkeypatch.setattr(kafka, "end_offsets", lambda admin, places: dict.fromkeys(places, len(values)))
    monkeypatch.setattr(kafka, "first_offsets", lambda admin, places: dict.fromkeys(places, 0))
    log, views = Log(values), Views()
    restorer = Restorer("toy", Origin("toy.states", 0, "c", "t", 1), views, None, None, log)  # type: ignore[arg-type]
    restorer.begin([0], "assigned")
    assert list(_steps(restorer)) == [Done(0, len(values), Applied(0, None))]
    assert views.states == {f"m:{i}": value for i, value in enumerate(values)}
    return log


def _steps(restorer: Restorer) -> Iterator[Done]:
    while restorer.active:
        yield from restorer.step(0)


def test_small_states_come_in_large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    log = restored([b"x" * 300] * 20_000, monkeypatch)
    assert log.asked[:2] == [FIRST_CHUNK, CHUNK]


def test_a_step_of_large_states_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    log = restored([b"x" * (STEP_BYTES // 100)] * 1_000, monkeypatch)
    assert set(log.asked[1:]) == {99}  # the keys have a size too


def test_one_state_larger_than_a_step_is_taken_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    log = restored([b"x" * (2 * STEP_BYTES)] * (FIRST_CHUNK + 3), monkeypatch)
    assert log.asked == [FIRST_CHUNK, 1, 1, 1]


def test_after_large_states_the_steps_grow_again(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [b"x" * (STEP_BYTES // 10)] * FIRST_CHUNK + [b"y"] * 10_000
    log = restored(values, monkeypatch)
    assert log.asked[:3] == [FIRST_CHUNK, 9, CHUNK]


def test_deletions_come_in_large_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    log = restored([None] * 2_000, monkeypatch)
    assert log.asked == [FIRST_CHUNK, CHUNK]
