"""How far behind the consumers are (lag), and whether everything accepted so far is done (drained).

Lag is what lies after the last processed record; commit markers of transactions count nothing.
Committed offsets are read first and the logs' ends after them: whatever a group has committed, its
outputs are in the logs by the time the ends are read, so work can't hide between two stages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rondo_cli import broker
from rondo_cli.broker import TopicPartition
from rondo_common.catalogue import TOPICS, Topic

EXACT_BELOW = 500
"""Offsets behind, by partition, up to which the tail is read to tell records from commit markers."""


@dataclass(frozen=True)
class Lag:
    """One group on one partition. `behind` in records, exact unless `estimated` (then an upper
    bound); `open` = offsets of transactions that are not finished."""

    group: str
    topic: str
    partition: int
    committed: int
    end: int
    behind: int
    open: int
    estimated: bool

    @property
    def zero(self) -> bool:
        """Nothing is left to do."""
        return self.behind == 0 and self.open == 0


def group_of(process: str) -> str:
    """Consumer group of a process."""
    return f"rondo.{process}"


def consumed(topic: Topic, process: str) -> bool:
    """True when the process reads the topic through its group. Its own state topics it replays without."""
    return process in topic.readers and not (topic.cleanup == "compact" and process in topic.writers)


def expected(processes: Sequence[str]) -> dict[str, set[str]]:
    """Group to topics it reads, by the catalogue, for the processes that belong to the stack."""
    return {group_of(p): {t.name for t in TOPICS.values() if consumed(t, p)} for p in processes}


def measure(bootstrap: str, processes: Sequence[str]) -> list[Lag]:
    """Lag of every group on every partition it reads, sorted."""
    with broker.admin(bootstrap) as client:
        there = broker.topic_names(client)
        wanted = {g: ts & there for g, ts in expected(processes).items()}
        parts = broker.partitions(client, set().union(*wanted.values()) if wanted else set())
        done = broker.committed(client, sorted(wanted))  # first the committed offsets, then the ends: see above
        where = [TopicPartition(t, p) for t, ps in parts.items() for p in ps]
        high = broker.ends(client, where, committed=False)
        stable = broker.ends(client, where, committed=True)
        first = broker.starts(client, where)
    raw = []
    for group, names in wanted.items():
        for tp in where:
            if tp.topic in names:
                at = max(done.get(group, {}).get(tp, first[tp]), first[tp])
                raw.append((group, tp, min(at, stable[tp])))
    counts = _records_after({(tp, at) for _, tp, at in raw if at < stable[tp] <= at + EXACT_BELOW}, stable, bootstrap)
    out = []
    for group, tp, at in raw:
        distance = stable[tp] - at
        exact = distance <= EXACT_BELOW
        behind = counts.get((tp, at), 0) if exact else distance
        out.append(Lag(group, tp.topic, tp.partition, at, stable[tp], behind, max(0, high[tp] - stable[tp]), not exact))
    return sorted(out, key=lambda lag: (lag.group, lag.topic, lag.partition))


def _records_after(
    asked: set[tuple[TopicPartition, int]], ends: Mapping[TopicPartition, int], bootstrap: str
) -> dict[tuple[TopicPartition, int], int]:
    """How many committed records lie in [offset, end) of each partition asked for."""
    if not asked:
        return {}
    lowest: dict[TopicPartition, int] = {}
    for tp, at in asked:
        lowest[tp] = min(at, lowest.get(tp, at))
    found: dict[TopicPartition, list[int]] = {tp: [] for tp in lowest}
    for record in broker.records(bootstrap, {tp: (at, ends[tp]) for tp, at in lowest.items()}):
        found[TopicPartition(record.topic, record.partition)].append(record.offset)
    return {(tp, at): sum(o >= at for o in found[tp]) for tp, at in asked}


def wait_drained(
    look: Callable[[], tuple[Sequence[Lag], Sequence[Any]]],
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[bool, Sequence[Lag], Sequence[Any]]:
    """Look until nothing is behind and nothing is under way, twice in a row; with what was seen last.
    `look` returns lags and whatever else is under way."""
    deadline = clock() + timeout_s
    clean = 0
    while True:
        lags, busy = look()
        clean = clean + 1 if not busy and all(lag.zero for lag in lags) else 0
        if clean >= 2:
            return True, lags, busy
        if clock() >= deadline:
            return False, lags, busy
        sleep(0.1)
