"""Moving the test clock: in steps to each next timer of any stage, draining in between, so that
everything happens in order of due time as it would in real time."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from rondo_common import telemetry
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem, conflict, invalid

_EXACT_STEPS, _SECOND_STEPS = 200, 400
"""So many steps go exactly to the next timer, then second by second, then minute by minute: an advance
over weeks with thousands of timers must end. Each stage fires its own in order all the same."""
DRAIN_S = 120.0

log = telemetry.logger(__name__)


class TestClock:
    """One advance at a time. `next_due` gives the earliest timer over all stages, `drain` waits until
    nothing is left to do."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(
        self, clock: Clock, next_due: Callable[[], Awaitable[int | None]], drain: Callable[[float], Awaitable[bool]]
    ):
        self._clock, self._next_due, self._drain = clock, next_due, drain
        self._task: asyncio.Task[None] | None = None
        self._failed = ""

    def status(self) -> dict[str, Any]:
        """frozen_time and advancing, ready or failed. Problem 409 on a system clock."""
        self._needs_test_clock()
        running = self._task is not None and not self._task.done()
        state = "advancing" if running else "failed" if self._failed else "ready"
        return {
            "frozen_time": iso(self._clock.now()),
            "status": state,
            **({"detail": self._failed} if self._failed else {}),
        }

    def advance(self, to: int) -> dict[str, Any]:
        """Begin to move to `to` (ms). Problem 409 backwards or while moving."""
        self._needs_test_clock()
        if self._task is not None and not self._task.done():
            raise conflict("advancing", "The clock is moving", "Wait until its status is ready")
        if to < self._clock.now():
            raise Problem(409, "backwards", "A test clock never goes backwards", f"It shows {iso(self._clock.now())}",
                          [invalid("/frozen_time", "backwards", "later than the present time")])  # fmt: skip
        self._failed = ""
        self._task = asyncio.create_task(self._move(to))
        return self.status()

    def _needs_test_clock(self) -> None:
        if not self._clock.frozen:
            raise conflict(
                "no-test-clock", "This system runs on the real clock", "Start it with rondo up --test-clock T"
            )

    async def _move(self, to: int) -> None:
        try:
            await self._settle()
            for step in itertools.count():
                due = await self._next_due()
                if due is None or due > to:
                    break
                more = 0 if step < _EXACT_STEPS else 1_000 if step < _SECOND_STEPS else 60_000
                self._clock.advance(min(to, max(self._clock.now(), due) + more))
                await self._settle()
            self._clock.advance(to)
            await self._settle()
        except Exception as e:
            log.exception("the test clock stopped")
            self._failed = str(e) or type(e).__name__

    async def _settle(self) -> None:
        if not await self._drain(DRAIN_S):
            raise RuntimeError(f"not drained within {DRAIN_S:.0f} s: see GET /v1/lag")
