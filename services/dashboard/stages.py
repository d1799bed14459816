"""How far each process is behind, from what its instances say, or from offsets where they don't. Pure.

An instance's own gauge counts records exactly; the broker's offsets also count the marks of
transactions, but they still tell when a process is down, which is when it matters.
"""

from collections.abc import Mapping, Sequence

from services.dashboard.exposition import by, total
from services.dashboard.model import Sample, Stage
from services.dashboard.rates import Pace, Trend, drain_s

LAG = "rondo_stream_lag"
RECORDS = "rondo_stream_records_total"

Backlog = tuple[int, int]
"""(offsets behind, offsets committed) of one process on one topic."""


class StageWatch:
    """One process over time."""

    def __init__(self, name: str):
        self.name = name
        self._said, self._seen, self._trend = Pace(), Pace(), Trend()
        self._exact: bool | None = None

    def look(self, at: float, samples: Sequence[Sample], offsets: Mapping[str, Backlog] | None) -> Stage | None:
        """A sample at `at` (monotonic seconds). `offsets` by topic, None when the broker does not answer.
        None for a process that reads nothing."""
        said = self._said.add(at, {s.place.url: total(s.metrics, RECORDS) for s in samples if s.metrics is not None})
        seen = None
        if offsets is not None:
            seen = self._seen.add(at, {topic: done for topic, (_, done) in offsets.items()})
        exact = all(s.state == "ready" for s in samples) and any((s.metrics or {}).get(LAG) for s in samples)
        if exact:
            topics: dict[str, int] = {}
            for s in samples:
                for topic, n in by(s.metrics, LAG, "topic").items():
                    topics[topic] = topics.get(topic, 0) + int(n)
        elif offsets:
            topics = {topic: behind for topic, (behind, _) in offsets.items()}
        elif offsets is None and any((s.metrics or {}).get(RECORDS) for s in samples):
            return Stage(self.name, None, False, said, None, None, [])
        else:
            return None
        if exact != self._exact:
            self._exact, self._trend = exact, Trend()  # the two ways of counting must not look like growth
        lag = sum(topics.values())
        pace = said if exact else seen
        ranked = sorted(((t, n) for t, n in topics.items() if n), key=lambda i: (-i[1], i[0]))
        return Stage(self.name, lag, exact, pace, drain_s(lag, pace), self._trend.add(at, lag), ranked)
