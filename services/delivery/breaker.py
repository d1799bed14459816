"""Pausing a provider that keeps failing, and pacing one that has a rate. No clock, no I/O."""


class Breaker:
    """Opens after `after` failures in a row; then lets one probe through after each pause, which doubles
    from `pause` up to `longest`. Times in seconds of any monotonic clock."""

    def __init__(self, after: int, pause: float, longest: float):
        self._after = after
        self._first = pause
        self._longest = longest
        self._failures = 0
        self._pause = pause
        self._until: float | None = None
        self._probing = False

    def state(self, now: float) -> str:
        """closed, open, or half_open (a probe may go, or is under way)."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half_open"

    def wait(self, now: float) -> float:
        """Seconds until a call may begin; 0 when one may now. While a probe is under way the others wait."""
        if self._until is None:
            return 0.0
        if self._probing:
            return max(self._until - now, 0.05)
        return max(self._until - now, 0.0)

    def begin(self, now: float) -> None:
        """A call begins; in half_open it is the probe."""
        if self._until is not None:
            self._probing = True

    def succeeded(self) -> None:
        """The provider answered, whatever it said."""
        self._failures = 0
        self._pause = self._first
        self._until = None
        self._probing = False

    def failed(self, now: float) -> None:
        """The provider was not reached, broke off, or answered with its own failure."""
        self._failures += 1
        if self._until is not None and self._probing:
            self._pause = min(self._pause * 2, self._longest)
            self._until = now + self._pause
        elif self._until is None and self._failures >= self._after:
            self._until = now + self._pause
        self._probing = False

    def gave_up(self) -> None:
        """The call that had begun never reached the provider for a reason of ours."""
        self._probing = False


class Pace:
    """Lets `rate` calls a second begin, evenly, with at most a tenth of a second's worth at once; 0: all."""

    def __init__(self, rate: float):
        self._step = 1.0 / rate if rate else 0.0
        self._next = 0.0

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` calls may begin now."""
        if not self._step:
            return wanted
        start = max(self._next, now - 0.1)
        count = min(wanted, max(0, int((now - start) / self._step) + 1) if now >= start else 0)
        self._next = start + count * self._step
        return count

    def wait(self, now: float) -> float:
        """Seconds until the next call may begin."""
        return max(0.0, self._next - now) if self._step else 0.0
