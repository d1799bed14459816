"""Making the calls: everything between a committed write-ahead and the answer that is recorded.

    line -> a place is free, the provider's pace and breaker allow -> stop flags, ownership ->
    mark "about" and the member's STOP, one round trip -> stop flags, ownership again -> the call ->
    mark the answer -> answer

The order is what makes it safe (STREAMS 24, 27, 28): a call begins only after its write-ahead was
committed by the owner of the partition, at most seconds ago, with its mark set.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import uvloop

from rondo_common import redis_client, telemetry
from rondo_common.outcomes import Perform
from rondo_common.streams.effector import AsyncEffector, Claim
from services.delivery.breaker import Breaker, Pace
from services.delivery.channels import Provider
from services.delivery.gate import MARKETING
from services.delivery.line import Line, Place, Places
from services.delivery.marks import Marks, MarksLost, NoMarks, stop_key
from services.delivery.model import Answer, Begin, Call, Check, Forget, Lookup, Stop, Verdict
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


class _Open:
    """A call in this process, from the line to its answer."""

    __slots__ = ("answer", "call", "claim", "perform", "revoked")

    def __init__(self, claim: Claim, perform: Perform, answer: "asyncio.Future[Answer]"):
        self.claim = claim
        self.perform = perform
        self.call: Call = perform.task
        self.answer = answer
        self.revoked = False


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
        self._calls: dict[str, _Open] = {}  # by id of the call
        self._begun: dict[int, asyncio.Task[None]] = {}  # by partition: its generation is being marked
        self._running: set[asyncio.Task[None]] = set()
        self.answers: Counter[str] = Counter()
        """Answers by verdict, since the start."""

    # life

    async def opened(self) -> None:
        s = self._settings
        self._provider = self._make_provider()
        self._redis = redis_client.connect_async(self._redis_url, connections=4)
        self._marks = Marks(self._redis, f"delivery-{self._channel}")
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
        await self._redis.aclose(close_connection_pool=True)
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
        made = _Open(claim, perform, self._loop.create_future())
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
            room = min(len(self._line), max(self._places.free(), 0))
            if room and self._breaker.state(now) == "half_open":
                room = 1
            room = self._pace.take(room, now) if room else 0
            for _ in range(room):
                self._breaker.begin(now)
                self._run(self._call(self._line.take(), self._places.enter()))
            pause = self._pace.wait(now) if len(self._line) and self._places.free() > 0 else 0.0
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause if pause > 0 and len(self._line) else None)

    async def _call(self, made: _Open, place: Place) -> None:
        try:
            answer = await self._guarded(made)
        except asyncio.CancelledError:
            raise
        except Exception as e:
            # whether bytes had left is not known
            log.exception("a call failed")
            answer = self._mine(Verdict.UNKNOWN, "effector_error", detail=type(e).__name__)
        finally:
            place.leave()
        self._end(made, answer)

    async def _guarded(self, made: _Open) -> Answer | None:
        """The call with all that must hold right before it. None: the partition is another worker's."""
        call, claim = made.call, made.claim
        partition = claim.partition
        if (early := self._hindered(made)) is not None or not claim.still_owner():
            self._breaker.gave_up()
            return early
        begun = self._begun.get(partition)
        if begun is not None and not begun.done():
            await asyncio.wait((begun,))
        stop = stop_key(call.workspace, self._channel, call.address_id) if call.class_ == MARKETING else None
        try:
            may, said_stop = await self._marks.about(partition, call.gen, call.id, stop)
        except MarksLost:
            self._breaker.gave_up()
            return self._mine(Verdict.LOST, "marks_lost")
        except NoMarks:
            self._breaker.gave_up()
            return self._mine(Verdict.NOT_SENT, "marks_unavailable")
        hindered = self._hindered(made)
        if not may or not claim.still_owner() or said_stop or hindered is not None:
            self._breaker.gave_up()
            if not may or not claim.still_owner():
                return None
            return self._mine(Verdict.BLOCKED, "stop") if said_stop else hindered
        return await self._send(made)

    def _hindered(self, made: _Open) -> Answer | None:
        if made.revoked:
            return self._mine(Verdict.NOT_SENT, "taken_back")
        if self._stops.hold(made.claim.partition, made.call):
            return self._mine(Verdict.NOT_SENT, "stopped")
        if not made.claim.valid(self._settings.max_age):
            return self._mine(Verdict.NOT_SENT, "ownership_too_old")
        return None

    def _mine(self, verdict: Verdict, reason: str, **more: Any) -> Answer:
        return Answer(verdict, self._provider.name, reason=reason, **more)

    async def _send(self, made: _Open) -> Answer:
        call = made.call
        for attempt in count():
            began = self._loop.time()
            answer = await self._provider.send(call.message, call.touch_id)
            SECONDS.labels(self._channel).observe(self._loop.time() - began)
            if answer.verdict in _FAILED:
                self._breaker.failed(self._loop.time())
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
        return answer

    def _end(self, made: _Open, answer: Answer | None) -> None:
        """Hand an answer over; None: no answer, the new owner finds what was written ahead."""
        if answer is not None:
            self.answers[answer.verdict] += 1
            CALLS.labels(self._channel, answer.verdict, answer.reason or "").inc()
        if self._calls.get(made.call.id) is made:
            del self._calls[made.call.id]
        if not made.answer.done():
            made.answer.set_result(answer or self._mine(Verdict.UNKNOWN, "worker_lost"))
        self.answer(made.claim, made.perform, answer)

    # questions

    async def _check(self, claim: Claim, perform: Perform, task: Check) -> None:
        """What became of a call left open. One of this very process (the partition went and came back) is
        waited for, or taken back if it has not begun."""
        answer: Answer | None = None
        own = self._calls.get(task.call)
        if own is not None:
            own.revoked = True
            await asyncio.wait((own.answer,))
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
