"""Making the calls: everything between a committed write-ahead and the answer that is recorded.

    line -> a place is free, the provider's pace and breaker allow -> stop flags, ownership ->
    mark "about" and the member's STOP, one round trip -> stop flags, ownership again -> the call ->
    mark the answer -> answer

The order is what makes it safe (STREAMS 24, 27, 28): a call begins only after its write-ahead was
committed by the owner of the partition, at most seconds ago, with its mark set. A place makes one call
after the other and each is marked when the one before is answered, so a kill leaves one call per place in
doubt; all that happens at a time happens together (rounds.py).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from rondo_common import telemetry
from rondo_common.outcomes import Perform
from rondo_common.redis_client import Wire
from rondo_common.streams.effector import AsyncEffector, Claim
from services.delivery.calls import Open
from services.delivery.channels import Provider
from services.delivery.marks import Marks, NoMarks
from services.delivery.model import Answer, Begin, Call, Check, Forget, Lookup, Stop, Verdict
from services.delivery.rounds import Ended, Rounds
from services.delivery.settings import DeliverySettings
from services.delivery.stops import Stops

log = telemetry.logger(__name__)

CALLS = telemetry.counter(
    "rondo_delivery_calls_total", "Provider calls by verdict and reason", ("channel", "verdict", "reason")
)


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
        self._asking: set[asyncio.Task[None]] = set()
        self._rounds: Rounds | None = None
        self._counters: dict[tuple[str, str], Any] = {}
        self.answers: Counter[str] = Counter()
        """Answers by verdict, since the start."""

    # life

    async def opened(self) -> None:
        self._provider = self._make_provider()
        self._wire = Wire(self._redis_url)
        self._marks = Marks(self._wire, f"delivery-{self._channel}")
        self._rounds = Rounds(
            self._channel,
            self._provider,
            self._marks,
            self._stops,
            self._settings,
            self._patient,
            self._beginning,
            self._ended,
        )

    async def closed(self) -> None:
        tasks = (*self._asking, *self._begun.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._rounds is not None:
            await self._rounds.close()
        await self._provider.close()
        await self._wire.close()
        await asyncio.sleep(0.01)  # closed transports need a turn of the loop

    def status(self) -> dict[str, Any]:
        """What people see: for gRPC Status, from any thread."""
        rounds = self._rounds
        return {
            "queued": len(rounds.line) if rounds else 0,
            "in_flight": rounds.places.open if rounds else 0,
            "breaker": rounds.breaker.state(self._loop.time()) if rounds else "closed",
            "answers": dict(self.answers),
            "stopped": self._stops.listed(),
        }

    # tasks

    async def perform_many(self, performs: Sequence[Perform], claim: Claim) -> None:
        """Take the tasks of one transaction; all but calls, checks and look-ups are done at once."""
        for perform in performs:
            task = perform.task
            if type(task) is Call:
                made = self._calls[task.id] = Open(claim, perform)
                self._rounds.enter(made)  # type: ignore[union-attr]
                continue
            match task:
                case Check():
                    self._ask(self._check(claim, perform, task))
                    continue
                case Lookup():
                    self._ask(self._look_up(claim, perform, task))
                    continue
                case Begin():
                    self._begin(claim.partition, task)
                case Stop():
                    self._stops.change(claim.partition, task)
                case Forget():
                    self._marks.forget(claim.partition, task.gen, (task.call, *task.more))
                    self._rounds.owe()  # type: ignore[union-attr]
            self.answer(claim, perform, None)

    def _ask(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

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

    def _beginning(self, partition: int) -> "asyncio.Future[None] | None":
        """What calls of the partition wait for: that its generation is marked."""
        begun = self._begun.get(partition)
        return None if begun is None or begun.done() else begun

    # answers

    def _ended(self, ended: Sequence[Ended]) -> None:
        """Hand over the answers of calls; None: no answer, the new owner finds what was written ahead."""
        said: Counter[tuple[str, str]] = Counter()
        for made, answer in ended:
            if answer is not None:
                said[answer.verdict, answer.reason or ""] += 1
            if self._calls.get(made.call.id) is made:
                del self._calls[made.call.id]
            if made.over is not None and not made.over.done():
                made.over.set_result(None)
        for (verdict, reason), n in said.items():
            self.answers[verdict] += n
            self._counter(verdict, reason).inc(n)
        self.answer_all([(made.claim, made.perform, answer) for made, answer in ended])

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
            answer = Answer(Verdict.UNKNOWN, self._provider.name, reason="not_askable_now", detail=type(e).__name__)
        self.answer(claim, perform, answer)
