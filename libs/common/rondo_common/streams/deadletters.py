"""Inputs that can't be processed: the record that tells so, and the limit above which a worker stops.

A dead letter goes to `<topic>.dlq` in the same transaction that moves the offset past the input, with
the original key, value and headers. An input that is no record (a timer, an item of a sweep, an
answer) goes as JSON to the dead-letter topic of the stage's lowest lane.
"""

from collections import deque
from typing import Any

import msgspec

from rondo_common.stage import Record, Stage, Timer
from rondo_common.streams.decide import Dead
from rondo_common.streams.envelope import iso

SUFFIX = ".dlq"


class DeadRecord(msgspec.Struct):
    """A record for a dead-letter topic."""

    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


def dead_record(stage: Stage, dead: Dead, partition: int, now: int) -> DeadRecord:
    """What to write for an input that can't be processed."""
    item = dead.item
    about: list[tuple[str, bytes]] = [
        ("rondo-dlq-reason", dead.reason.encode()),
        ("rondo-dlq-detail", dead.detail[:2000].encode(errors="replace")),
        ("rondo-dlq-stage", stage.name.encode()),
        ("rondo-dlq-partition", b"%d" % partition),
        ("rondo-dlq-time", iso(now)),
    ]
    if type(item) is Record:
        headers = [(name, text.encode()) for name, text in item.headers.items()]
        about += [("rondo-dlq-topic", item.topic.encode()), ("rondo-dlq-offset", b"%d" % item.offset)]
        return DeadRecord(item.topic + SUFFIX, item.key, item.value, headers + about)
    kind = type(item).__name__
    body: dict[str, Any] = {"input": kind, **msgspec.to_builtins(item, enc_hook=repr)}
    key = item.owner if type(item) is Timer else item.cause
    about.append(("rondo-dlq-input", kind.lower().encode()))
    return DeadRecord(default_topic(stage) + SUFFIX, key, msgspec.json.encode(body), [*about])


def default_topic(stage: Stage) -> str:
    """The topic whose dead-letter topic takes what came from no topic."""
    named: str = getattr(stage, "dead_letter_topic", "")
    return named or stage.lanes[-1][0]


class TooMany(Exception):
    """The share of dead letters says that something is wrong with the worker, not with the records."""


class Limit:
    """Halts a partition instead of pouring it into the dead-letter topic. More than `most` dead letters
    and more than `share` of all inputs, both within the last `inputs` inputs and `seconds`."""

    def __init__(self, most: int = 100, share: float = 0.05, inputs: int = 10_000, seconds: float = 60.0):
        self._most, self._share, self._inputs, self._seconds = most, share, inputs, seconds
        self._batches: deque[tuple[float, int, int]] = deque()
        self._seen = 0
        self._dead = 0

    def check(self, at: float, seen: int, dead: int) -> None:
        """TooMany when a batch of `seen` inputs with `dead` dead letters at `at` (s) is one too many;
        then it must not be committed. Else it is counted by `count`, once committed."""
        self._forget(at)
        total, bad = self._seen + seen, self._dead + dead
        if dead and bad > self._most and bad > self._share * total:
            raise TooMany(
                f"{bad} of the last {total} inputs can't be processed (limit {self._most}, {self._share:.0%})"
            )

    def count(self, at: float, seen: int, dead: int) -> None:
        """Count a committed batch."""
        self._batches.append((at, seen, dead))
        self._seen += seen
        self._dead += dead
        self._forget(at)

    def _forget(self, at: float) -> None:
        while self._batches and (
            self._batches[0][0] < at - self._seconds or self._seen - self._batches[0][1] >= self._inputs
        ):
            _, seen, dead = self._batches.popleft()
            self._seen -= seen
            self._dead -= dead
