"""Calls by the burst: what may start at a time starts together, what ended at a time is told together.

    a round:  calls that ended -> their answers are noted, their places take the next of the line
              free places take calls while breaker and pace allow
              each: stop flags, ownership -> marks of all in one round trip -> stop flags, ownership -> it starts

A place makes one call after the other. Its next one is marked as about to begin in the step that notes the
answer of the one before, so a kill leaves one call per place in doubt. While a round's marks are on their way
to Redis and back, calls that end gather for the next round; there is no task and no wait for each mail.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import msgspec

from rondo_common import telemetry, tracing
from services.delivery.breaker import Breaker, Pace
from services.delivery.calls import Open, Teller
from services.delivery.channels import Provider
from services.delivery.guard import Guard
from services.delivery.line import Line, Places
from services.delivery.marks import About, Leave, Marks, NoMarks
from services.delivery.model import Answer, Message, Verdict
from services.delivery.settings import DeliverySettings
from services.delivery.stops import Stops

log = telemetry.logger(__name__)

SECONDS = telemetry.histogram("rondo_delivery_call_seconds", "Duration of provider calls", ("channel",))

CONNECT_TRIES = 3
"""Attempts at a connection within one call; each surely sent nothing."""
BREAKER_WAIT_S = 1.0
"""Calls wait in line for an open breaker up to this long; then they go back and come again by a timer."""
OWED_S = 0.02
"""How long marks to be forgotten wait for a round to travel with."""

_FAILED = frozenset((Verdict.NOT_SENT, Verdict.UNKNOWN))

Ended = tuple[Open, Answer | None]
"""A call and its answer; None: none is to be given, the new owner finds what was written ahead."""


class Rounds:
    """The places of one provider and the line before them. All methods are for one event loop. `ended` gets
    the calls that ended at a time; `begun` says what must be over before calls of a partition are marked."""

    def __init__(
        self,
        channel: str,
        provider: Provider,
        marks: Marks,
        stops: Stops,
        settings: DeliverySettings,
        patient: bool,
        begun: Callable[[int], "asyncio.Future[None] | None"],
        ended: Callable[[Sequence[Ended]], None],
    ):
        s = settings
        self._channel, self._provider, self._marks = channel, provider, marks
        self._guard = Guard(channel, provider.name, stops, s.max_age)
        self._patient, self._begun, self._ended = patient, begun, ended
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.line = Line()
        self.places = Places(s.concurrency, s.most, s.slow_after, self._wake.set)
        self.breaker = Breaker(s.breaker_after, s.breaker_pause, s.breaker_longest)
        self._pace = Pace(s.rate)
        self._seconds = SECONDS.labels(channel)
        self._ready: list[Teller] = []
        """Whose call `made` has been taken from the line and not begun."""
        self._done: list[tuple[Teller, Answer | None]] = []
        self._back: list[Ended] = []
        """Given back without a place."""
        self._lasted: list[float] = []
        self._running: set[asyncio.Task[None]] = set()
        self._task = self._loop.create_task(self._run())

    def enter(self, made: Open) -> None:
        """Take a call into the line."""
        self.line.put(made.call.lane, made)
        self._wake.set()

    def owe(self) -> None:
        """There is something to tell the marks, in no hurry."""
        self._loop.call_later(OWED_S, self._wake.set)

    async def close(self) -> None:
        tasks = (self._task, *self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # a round

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("a round failed")
                await asyncio.sleep(0.1)

    async def _round(self) -> None:
        self._wake.clear()
        self._settle()
        now = self._loop.time()
        pause = self.breaker.wait(now)
        if pause > BREAKER_WAIT_S and not self._patient:
            after = round(pause * 1000)
            while len(self.line):
                self._back.append((self.line.take(), self._guard.mine(Verdict.NOT_SENT, "breaker_open", after=after)))
        elif pause == 0:
            pause = self._fill(now)
        if self._back:
            back, self._back = self._back, []
            self._ended(back)
        if self._ready or self._marks.owes:
            await self._begin()
        if pause > 0 and len(self.line):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
        else:
            await self._wake.wait()

    def _settle(self) -> None:
        """Note the answers of calls that ended, and what their places do next."""
        if not self._done:
            return
        done, self._done = self._done, []
        now = self._loop.time()
        ended: list[Ended] = []
        for teller, answer in done:
            made, following, teller.following = teller.made, teller.following, None
            if answer is not None and made.marked:
                self._marks.answered(made.claim.partition, made.call.gen, made.call.id, answer)
            ended.append((made, answer))
            if following is None:
                following = self._next(now) if teller.place.quick else None
            elif self.breaker.wait(now) > 0:
                self._give_back(following)
                following = None
            if following is not None:
                teller.made = following
                self._ready.append(teller)
            else:
                teller.leave()
        if self._lasted:
            lasted, self._lasted = self._lasted, []
            telemetry.observe_all(self._seconds, lasted)
        self._ended(ended)

    def _fill(self, now: float) -> float:
        """Give free places calls of the line. Seconds until the pace lets the next one begin."""
        while self.places.free() > 0 and (made := self._next(now)) is not None:
            teller = Teller(self.places.enter(), self._provider.seat(), made)
            teller.done = partial(self._call_done, teller)
            teller.place.on_slow = partial(self._slow, teller)
            self._ready.append(teller)
        return self._pace.wait(now) if len(self.line) and self.places.free() > 0 else 0.0

    def _next(self, now: float) -> Open | None:
        """The next call in line, if the breaker and the pace let one begin now."""
        if not len(self.line) or self.breaker.wait(now) > 0 or not self._pace.take(1, now):
            return None
        self.breaker.begin(now)
        made: Open = self.line.take()
        return made

    def _give_back(self, made: Open) -> None:
        """It was taken from the line and did not begin."""
        self.breaker.gave_up()
        self.line.put_back(made.call.lane, made)
        self._wake.set()

    def _slow(self, teller: Teller) -> None:
        """Its place is another's from now on, and so is the call that was to follow."""
        if teller.following is not None:
            teller.seat.withdraw()
            self._give_back(teller.following)
            teller.following = None

    # what must hold right before a call

    async def _begin(self) -> None:
        """Mark the calls that are ready and start those that may."""
        ready, self._ready = self._ready, []
        asked: list[Teller] = []
        abouts: list[About] = []
        now = self._loop.time()
        for teller in ready:
            made = teller.made
            claim = made.claim
            teller.place.began = now
            hindered = self._guard.hindered(made)
            if hindered is not None:
                self._refuse(teller, hindered if claim.still_owner() else None)
                continue
            begun = self._begun(claim.partition)
            if begun is not None:
                begun.add_done_callback(partial(self._again, teller))
                continue
            asked.append(teller)
            abouts.append(self._guard.about(made))
        found: Sequence[Leave | NoMarks]
        try:
            found = await self._marks.round(abouts)
        except Exception as e:
            log.exception("marks failed")
            found = [NoMarks(type(e).__name__)] * len(asked)
        for teller, leave in zip(asked, found, strict=True):
            self._start(teller, leave)

    def _again(self, teller: Teller, _: "asyncio.Future[None]") -> None:
        self._ready.append(teller)
        self._wake.set()

    def _start(self, teller: Teller, leave: Leave | NoMarks) -> None:
        """Begin a call, if it still may."""
        made = teller.made
        if isinstance(leave, NoMarks):
            self._refuse(teller, self._guard.mine(Verdict.NOT_SENT, "marks_unavailable"))
        elif not leave.unrevoked or not made.claim.still_owner():
            self._refuse(teller, None)
        else:
            made.marked = True
            if leave.stopped:
                self._refuse(teller, self._guard.mine(Verdict.BLOCKED, "stop"))
            elif (hindered := self._guard.hindered(made)) is not None:
                self._refuse(teller, hindered)
            else:
                self._call(teller)

    def _refuse(self, teller: Teller, answer: Answer | None) -> None:
        self.breaker.gave_up()
        teller.seat.withdraw()
        self._over(teller, answer)

    # the call

    def _call(self, teller: Teller) -> None:
        call = teller.made.call
        teller.traced = time.time_ns() if call.trace and tracing.on() else 0
        teller.began = self._loop.time()
        try:
            if teller.seat.start(call.message, call.touch_id, self._after(teller), teller.done):
                return
        except Exception as e:
            self._failed(teller, e)
            return
        self._task_of(self._send(teller))

    def _task_of(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _after(self, teller: Teller) -> tuple[Message, str] | None:
        """What this place sends next, if the provider has a use for knowing it."""
        if not self._provider.pipelines or not teller.place.quick:
            return None
        if teller.following is None:
            teller.following = self._next(teller.began)
        made = teller.following
        if made is None or self._guard.hindered(made) is not None:
            return None
        return made.call.message, made.call.touch_id

    async def _send(self, teller: Teller) -> None:
        """A call that needs more than one write: a connection first, or an envelope."""
        made = teller.made
        try:
            for attempt in count():
                teller.began = self._loop.time()
                answer = await teller.seat.send(made.call.message, made.call.touch_id, self._after(teller))
                if answer.verdict != Verdict.NOT_SENT or answer.after is not None:
                    break
                self._clocked(teller, answer)
                over = attempt + 1 >= CONNECT_TRIES or self.breaker.wait(self._loop.time()) > 0
                if over and not self._patient:
                    self._told(teller, answer)
                    return
                await asyncio.sleep(min(0.1 * 4**attempt, 1.0))
                if (hindered := self._guard.hindered(made)) is not None:
                    self._over(teller, hindered)
                    return
            self._call_done(teller, answer)
        except asyncio.CancelledError:
            raise
        except Exception as e:
            self._failed(teller, e)

    def _failed(self, teller: Teller, error: Exception) -> None:
        # whether bytes had left is not known
        log.error("a call failed", exc_info=error)
        self._over(teller, self._guard.mine(Verdict.UNKNOWN, "effector_error", detail=type(error).__name__))

    def _clocked(self, teller: Teller, answer: Answer) -> None:
        now = self._loop.time()
        self._lasted.append(now - teller.began)
        if answer.verdict in _FAILED:
            self.breaker.failed(now)
        else:
            self.breaker.succeeded()

    def _call_done(self, teller: Teller, answer: Answer) -> None:
        self._clocked(teller, answer)
        self._told(teller, answer)

    def _told(self, teller: Teller, answer: Answer) -> None:
        call = teller.made.call
        if call.address_id:
            answer = msgspec.structs.replace(answer, address_id=call.address_id)
        if teller.traced:
            what = {
                "rondo.provider": answer.provider,
                "rondo.verdict": str(answer.verdict),
                "rondo.reason": answer.reason or "",
            }
            name = f"delivery-{self._channel} call"
            tracing.report(name, tracing.CLIENT, tracing.child(call.trace), call.trace, teller.traced, 0, what)
        self._over(teller, answer)

    def _over(self, teller: Teller, answer: Answer | None) -> None:
        self._done.append((teller, answer))
        self._wake.set()
