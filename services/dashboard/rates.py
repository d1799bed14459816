"""How fast something goes, from successive samples of counters; and how long a backlog lasts. Pure."""

from collections import deque

WINDOW_S = 10.0
"""Rates look back this far."""
HISTORY = 60
"""Rates kept for the small curves."""


class Pace:
    """The rate of one thing that several counters count (one an instance). A counter that went back was
    started anew, one that is new had its past elsewhere: neither counts for that step."""

    def __init__(self, window_s: float = WINDOW_S):
        self._window = window_s
        self._last: dict[str, float] = {}
        self._steps: deque[tuple[float, float]] = deque()
        self._begun: float | None = None
        self.history: deque[float] = deque(maxlen=HISTORY)

    def add(self, at: float, counters: dict[str, float]) -> float | None:
        """A sample at `at` (monotonic seconds). Returns the rate a second over the window; None until
        there are two samples."""
        step = sum(max(0.0, v - self._last[k]) for k, v in counters.items() if k in self._last)
        self._last.update(counters)
        if self._begun is None:
            self._begun = at
            return None
        self._steps.append((at, step))
        # the oldest step that is kept ends the window; what happened before it is not counted
        while len(self._steps) > 1 and at - self._steps[0][0] >= self._window:
            self._begun = self._steps.popleft()[0]
        span = at - self._begun
        rate = sum(n for _, n in self._steps) / span if span > 0 else 0.0
        self.history.append(round(rate, 2))
        return rate


class Trend:
    """By how much a quantity grows a second, over the window."""

    def __init__(self, window_s: float = WINDOW_S):
        self._window = window_s
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, at: float, value: float) -> float | None:
        """A sample; the growth a second, None until there are two."""
        self._seen.append((at, value))
        while len(self._seen) > 2 and at - self._seen[0][0] > self._window:
            self._seen.popleft()
        (t0, v0), (t1, v1) = self._seen[0], self._seen[-1]
        return (v1 - v0) / (t1 - t0) if t1 > t0 else None


def drain_s(lag: int, pace: float | None) -> float | None:
    """Seconds to work off `lag` records at `pace` a second. 0 without lag; None when nothing moves or
    the pace is not known yet."""
    if lag <= 0:
        return 0.0
    return lag / pace if pace else None
