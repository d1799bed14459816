"""Is everything that was accepted done? For the API; the command line has an independent look of its own.

Committed offsets are read first and the logs' ends after them, so work can't hide between two stages;
an idle stage commits up to the end of the log, markers included. What no offset shows (calls under
way, sweeps, due timers) each process says in the gauge rondo_stream_pending.
"""

from typing import Any, NamedTuple

from rondo_common import kafka
from rondo_common.catalogue import TOPICS, Topic

PENDING = "rondo_stream_pending"
_counts: dict[str, int] = {}


def reads(topic: Topic, process: str) -> bool:
    """Whether a process reads a topic through its group; its own state it replays without one."""
    return process in topic.readers and not (topic.cleanup == "compact" and process in topic.writers)


class Backlog(NamedTuple):
    """One process on one topic, over all partitions: offsets after the committed ones, and the sum of
    the committed ones (its growth is the pace). Both count the markers of transactions."""

    behind: int
    handled: int


def backlog(admin: Any, commits: kafka.Commits, processes: list[str]) -> dict[str, dict[str, Backlog]]:
    """The backlog of every topic that the processes read, by process and topic. KafkaException when
    the broker does not answer."""
    wanted = {p: [t.name for t in TOPICS.values() if reads(t, p)] for p in processes}
    wanted = {p: names for p, names in wanted.items() if names}
    names = sorted({n for topics in wanted.values() for n in topics})
    if not _counts.keys() >= set(names):
        # a topic's count is fixed at creation: asked once
        _counts.update({name: info.partitions for name, info in kafka.describe(admin, names).items()})
    places = [(name, p) for name in names for p in range(_counts.get(name, 0))]
    committed = {q: commits.of(f"rondo.{q}", [w for w in places if w[0] in topics]) for q, topics in wanted.items()}
    ends = kafka.end_offsets(admin, places)
    out: dict[str, dict[str, Backlog]] = {}
    for process, topics in wanted.items():
        done = committed[process]
        for (name, p), end in ends.items():
            if name in topics:
                lag = out.setdefault(process, {})
                behind, handled = lag.get(name, Backlog(0, 0))
                at = done.get((name, p), 0)
                lag[name] = Backlog(behind + max(0, end - at), handled + at)
    return out


def behind(admin: Any, commits: kafka.Commits, processes: list[str]) -> dict[str, dict[str, int]]:
    """Offsets after the committed ones, by process and topic, only where there are any."""
    found = {
        p: {t: b.behind for t, b in by.items() if b.behind} for p, by in backlog(admin, commits, processes).items()
    }
    return {p: by for p, by in found.items() if by}


def pending(metrics: str) -> dict[str, float]:
    """Work under way by the text of a process's /metrics: what -> how much, only where there is any."""
    out = {}
    for line in metrics.splitlines():
        if line.startswith(PENDING) and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            if float(value) > 0:
                out[name.removeprefix(PENDING)] = float(value)
    return out
