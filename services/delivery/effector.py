"""Making the calls: everything between a committed write-ahead and the answer that is recorded.

    line -> a place is free, the provider's pace and breaker allow -> stop flags, ownership ->
    mark "about" and the member's STOP, one round trip -> stop flags, ownership again -> the call ->
    mark the answer -> answer

The order is what makes it safe (STREAMS 24, 27, 28): a call begins only after its write-ahead was
committed by the owner of the partition, at most seconds ago, with its mark set. A place makes one call
after the other and each is marked when the one before is answered, so a kill leaves one call per place in
doubt; the marks of all places that are ready at a time share their round trip.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import uvloop

from rondo_common import telemetry, tracing
from rondo_common.outcomes import Perform
from rondo_common.redis_client import Wire
from rondo_common.streams.effector import AsyncEffector, Claim
from services.delivery.breaker import Breaker, Pace
from services.delivery.calls import Open, Teller
from services.delivery.channels import Provider
from services.delivery.gate import MARKETING
from services.delivery.line import Line, Places
from services.delivery.marks import Marks, NoMarks, stop_key
from services.delivery.model import Answer, Begin, Call, Check, Forget, Lookup, Message, Stop, Verdict
from services.delivery.settings import DeliverySettings
from services.delivery.stops import Stops

log = telemetry.logger(__name__)

CALLS = telemetry.counter(
    "rondo_delivery_calls_total", "Provider calls by verdict and reason", ("channel", "verdict", "reason")
)
SECONDS = telemetry.histogram("rondo_delivery_call_seconds", "Duration of provider calls", ("channel",))

CONNECT_TRIES = 3
"""Attempts at a connection within one call; each surely sent nothing."""
BREAKER_WAIT_S = 1.0
"""Calls wait in line for an open breaker up to this long; then they go back and come again by a timer."""

_FAILED = frozenset((Verdict.NOT_SENT, Verdict.UNKNOWN))


def ahead(settings: DeliverySettings) -> int:
    """How many calls are written ahead at most: those about to start (STREAMS 28), so with a pace those of
    one second."""
    most = max(500, 4 * settings.most)
    return min(most, max(settings.concurrency, round(settings.rate))) if settings.rate else most


class Courier(AsyncEffector):
    """The effector of one channel. The provider is made on the event loop that uses it. `patient`: under a
    frozen clock no timer brings a call back, so one that gets no connection waits here until it does."""

    def __init__(
        self,
        channel: str,
        make_provider: Callable[[], Provider],
        redis_url: str,
        settings: DeliverySettings,
        patient: bool = False,
    ):
        super().__init__(concurrency=settings.most, limit=ahead(settings))
        self._loop.close()
        self._loop = uvloop.new_event_loop()
        self._channel = channel
        self._make_provider = make_provider
        self._redis_url = redis_url
        self._settings = settings
        self._patient = patient
        self._stops = Stops()
        self._calls: dict[str, Open] = {}  # by id of the call
        self._begun: dict[int, asyncio.Task[None]] = {}  # by partition: its generation is being marked
        self._running: set[asyncio.Task[None]] = set()
        self._seconds = SECONDS.labels(channel)
        self._counters: dict[tuple[str, str], Any] = {}
        self.answers: Counter[str] = Counter()
        """Answers by verdict, since the start."""

    # life

    async def opened(self) -> None:
        s = self._settings
        self._provider = self._make_provider()
        self._wire = Wire(self._redis_url)
        self._marks = Marks(self._wire, f"delivery-{self._channel}")
        self._line = Line()
        self._wake = asyncio.Event()
        self._places = Places(s.concurrency, s.most, s.slow_after, self._wake.set)
        self._breaker = Breaker(s.breaker_after, s.breaker_pause, s.breaker_longest)
        self._pace = Pace(s.rate)
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def closed(self) -> None:
        for task in (self._dispatcher, *self._running, *self._begun.values()):
            task.cancel()
        await asyncio.gather(self._dispatcher, *self._running, *self._begun.values(), return_exceptions=True)
        await self._provider.close()
        await self._wire.close()
        await asyncio.sleep(0.01)  # closed transports need a turn of the loop

    def status(self) -> dict[str, Any]:
        """What people see: for gRPC Status, from any thread."""
        now = self._loop.time()
        places = getattr(self, "_places", None)
        return {
            "queued": len(self._line) if places else 0,
            "in_flight": places.open if places else 0,
            "breaker": self._breaker.state(now) if places else "closed",
            "answers": dict(self.answers),
            "stopped": self._stops.listed(),
        }

    # tasks

    async def perform_many(self, performs: Sequence[Perform], claim: Claim) -> None:
        """Take the tasks of one transaction; all but calls, checks and look-ups are done at once."""
        for perform in performs:
            task = perform.task
            match task:
                case Call():
                    self._enter(claim, perform)
                    continue
                case Check():
                    self._run(self._check(claim, perform, task))
                    continue
                case Lookup():
                    self._run(self._look_up(claim, perform, task))
                    continue
                case Begin():
                    self._begin(claim.partition, task)
                case Stop():
                    self._stops.change(claim.partition, task)
                case Forget():
                    self._marks.forget(claim.partition, task.gen, task.call)
            self.answer(claim, perform, None)

    def _run(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _enter(self, claim: Claim, perform: Perform) -> None:
        made = Open(claim, perform)
        self._calls[perform.id] = made
        self._line.put(made.call.lane, made)
        self._wake.set()

    def _begin(self, partition: int, task: Begin) -> None:
        self._stops.begin(partition, task)

        async def mark() -> None:
            while True:
                try:
                    await self._marks.begin(partition, task.gen)
                    return
                except NoMarks:
                    await asyncio.sleep(0.1)

        old = self._begun.get(partition)
        if old is not None:
            old.cancel()
        self._begun[partition] = self._loop.create_task(mark())

    # calls

    async def _dispatch(self) -> None:
        while True:
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("dispatching failed")
                await asyncio.sleep(0.1)

    async def _turn(self) -> None:
        """Start what may start; then wait until more may."""
        self._wake.clear()
        now = self._loop.time()
        pause = self._breaker.wait(now)
        if pause > BREAKER_WAIT_S and not self._patient:
            while len(self._line):
                self._end(self._line.take(), self._mine(Verdict.NOT_SENT, "breaker_open", after=round(pause * 1000)))
        elif pause == 0:
            while self._places.free() > 0 and (made := self._next()) is not None:
                self._run(self._serve(made, Teller(self._places.enter(), self._provider.seat())))
            pause = self._pace.wait(now) if len(self._line) and self._places.free() > 0 else 0.0
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause if pause > 0 and len(self._line) else None)

    def _next(self) -> Open | None:
        """The next call in line, if the breaker and the pace let one begin now."""
        if not len(self._line):
            return None
        now = self._loop.time()
        if self._breaker.wait(now) > 0 or not self._pace.take(1, now):
            return None
        self._breaker.begin(now)
        made: Open = self._line.take()
        return made

    def _give_back(self, made: Open) -> None:
        """It was taken from the line and did not begin."""
        self._breaker.gave_up()
        self._line.put_back(made.call.lane, made)
        self._wake.set()

    async def _serve(self, made: Open | None, teller: Teller) -> None:
        """One call after the other on one place, as long as there are any."""
        place = teller.place

        def slow() -> None:
            # its place is another's from now on, and so is the call that was to follow
            if teller.following is not None:
                teller.seat.withdraw()
                self._give_back(teller.following)
                teller.following = None

        place.on_slow = slow
        try:
            while made is not None:
                place.renew()
                try:
                    answer = await self._guarded(made, teller)
                except asyncio.CancelledError:
                    raise
                except Exception as e:
                    # whether bytes had left is not known
                    log.exception("a call failed")
                    answer = self._mine(Verdict.UNKNOWN, "effector_error", detail=type(e).__name__)
                self._end(made, answer)
                made, teller.following = teller.following, None
                if made is None and place.quick:
                    made = self._next()
                elif made is not None and self._breaker.wait(self._loop.time()) > 0:
                    self._give_back(made)
                    made = None
        finally:
            place.leave()
            teller.seat.leave()

    async def _guarded(self, made: Open, teller: Teller) -> Answer | None:
        """The call with all that must hold right before it. None: the partition is another worker's."""
        call, claim = made.call, made.claim
        may, refusal = await self._may(made, call, claim)
        if not may:
            self._breaker.gave_up()
            teller.seat.withdraw()
            return refusal
        return await self._send(made, teller)

    async def _may(self, made: Open, call: Call, claim: Claim) -> tuple[bool, Answer | None]:
        """Whether the call may begin, marked as about to; if not, the answer (None: there is none to give)."""
        hindered = self._hindered(made)
        if hindered is not None:
            return False, hindered if claim.still_owner() else None
        begun = self._begun.get(claim.partition)
        if begun is not None and not begun.done():
            await asyncio.wait((begun,))
        stop = stop_key(call.workspace, self._channel, call.address_id) if call.class_ == MARKETING else None
        try:
            unrevoked, said_stop = await self._marks.about(claim.partition, call.gen, call.id, stop)
        except NoMarks:
            return False, self._mine(Verdict.NOT_SENT, "marks_unavailable")
        if not unrevoked or not claim.still_owner():
            return False, None
        if said_stop:
            return False, self._mine(Verdict.BLOCKED, "stop")
        hindered = self._hindered(made)
        return hindered is None, hindered

    def _hindered(self, made: Open) -> Answer | None:
        if made.revoked:
            return self._mine(Verdict.NOT_SENT, "taken_back")
        if self._stops.hold(made.claim.partition, made.call):
            return self._mine(Verdict.NOT_SENT, "stopped")
        if not made.claim.valid(self._settings.max_age):
            return self._mine(Verdict.NOT_SENT, "ownership_too_old")
        return None

    def _mine(self, verdict: Verdict, reason: str, **more: Any) -> Answer:
        return Answer(verdict, self._provider.name, reason=reason, **more)

    async def _send(self, made: Open, teller: Teller) -> Answer:
        call = made.call
        started = time.time_ns() if call.trace and tracing.on() else 0
        for attempt in count():
            began = self._loop.time()
            answer = await teller.seat.send(call.message, call.touch_id, self._after(teller))
            now = self._loop.time()
            self._seconds.observe(now - began)
            if answer.verdict in _FAILED:
                self._breaker.failed(now)
            else:
                self._breaker.succeeded()
            if answer.verdict != Verdict.NOT_SENT or answer.after is not None:
                break
            over = attempt + 1 >= CONNECT_TRIES or self._breaker.wait(self._loop.time()) > 0
            if over and not self._patient:
                break
            await asyncio.sleep(min(0.1 * 4**attempt, 1.0))
            if (hindered := self._hindered(made)) is not None:
                return hindered
        answer = msgspec.structs.replace(answer, address_id=call.address_id or None)
        self._marks.answered(made.claim.partition, call.gen, call.id, answer)
        if started:
            what = {
                "rondo.provider": answer.provider,
                "rondo.verdict": str(answer.verdict),
                "rondo.reason": answer.reason or "",
            }
            name = f"delivery-{self._channel} call"
            tracing.report(name, tracing.CLIENT, tracing.child(call.trace), call.trace, started, 0, what)
        return answer

    def _after(self, teller: Teller) -> tuple[Message, str] | None:
        """What this place sends next, if the provider has a use for knowing it."""
        if not self._provider.pipelines or not teller.place.quick:
            return None
        if teller.following is None:
            teller.following = self._next()
        made = teller.following
        if made is None or self._hindered(made) is not None:
            return None
        return made.call.message, made.call.touch_id

    def _end(self, made: Open, answer: Answer | None) -> None:
        """Hand an answer over; None: no answer, the new owner finds what was written ahead."""
        if answer is not None:
            self.answers[answer.verdict] += 1
            self._counter(answer.verdict, answer.reason or "").inc()
        if self._calls.get(made.call.id) is made:
            del self._calls[made.call.id]
        if made.over is not None and not made.over.done():
            made.over.set_result(None)
        self.answer(made.claim, made.perform, answer)

    def _counter(self, verdict: str, reason: str) -> Any:
        found = self._counters.get((verdict, reason))
        if found is None:
            found = self._counters[verdict, reason] = CALLS.labels(self._channel, verdict, reason)
        return found

    # questions

    async def _check(self, claim: Claim, perform: Perform, task: Check) -> None:
        """What became of a call left open. One of this very process (the partition went and came back) is
        waited for, or taken back if it has not begun."""
        answer: Answer | None = None
        own = self._calls.get(task.call)
        if own is not None:
            own.revoked = True
            if own.over is None:
                own.over = self._loop.create_future()
            await asyncio.wait((own.over,))
        while claim.still_owner():
            try:
                answer = await self._marks.check(claim.partition, task.gen, task.call)
                break
            except NoMarks:
                await asyncio.sleep(0.1)
        self.answer(claim, perform, answer)

    async def _look_up(self, claim: Claim, perform: Perform, task: Lookup) -> None:
        try:
            answer = await self._provider.look_up(task)
        except Exception as e:
            log.exception("a look-up failed")
            answer = self._mine(Verdict.UNKNOWN, "not_askable_now", detail=type(e).__name__)
        self.answer(claim, perform, answer)
