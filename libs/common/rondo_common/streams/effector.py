"""Doing what handlers asked for with `Perform`: calls to the world outside.

A task reaches the effector only after the transaction that asked for it has committed. Its answer
comes back as a `Result`. Between the two the partition may be given to another worker; who is about
to do something that can't be taken back asks the claim first (STREAMS 28):

    class Mail(AsyncEffector):
        async def perform(self, perform, claim):
            message = render(perform.task)
            if not claim.valid():           # right before the first byte leaves
                return None                 # no answer: the new owner knows what was written ahead
            return await call(message)
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from rondo_common import kafka
from rondo_common.outcomes import Perform

log = logging.getLogger("rondo.streams")

MAX_AGE_S = kafka.SESSION_MS / 1000 / 2
"""Older proofs of ownership are not enough to begin a call."""


class Failed(msgspec.Struct, frozen=True):
    """The answer when the effector's own code raised."""

    error: str


class Ownership:
    """Which partitions this worker owns and when that was last proved, readable from any thread. The
    proof is a transaction the broker accepted from this group generation; its age counts from before
    the transaction began, so nobody else can own the partition within a session time-out of it."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}
        self._proved = 0.0
        self._last = 0

    def assign(self, partitions: Sequence[int]) -> None:
        self._last += 1
        self._epochs = dict.fromkeys(partitions, self._last)

    def clear(self) -> None:
        self._epochs = {}
        self._proved = 0.0

    def proved(self, at: float) -> None:
        """A fenced transaction that began at `at` (monotonic seconds) was committed."""
        self._proved = at

    def epoch(self, partition: int) -> int | None:
        """Number of the assignment that holds the partition now."""
        return self._epochs.get(partition)

    def age(self) -> float:
        """Seconds since the last proof."""
        return time.monotonic() - self._proved


class Claim:
    """The right to act for a partition, as of one assignment."""

    __slots__ = ("_epoch", "_ownership", "partition")

    def __init__(self, ownership: Ownership, partition: int, epoch: int):
        self.partition = partition
        self._ownership = ownership
        self._epoch = epoch

    def still_owner(self) -> bool:
        """Whether the assignment this claim came with still holds, as far as this worker knows."""
        return self._ownership.epoch(self.partition) == self._epoch

    def age(self) -> float:
        """Seconds since the broker last accepted this worker as the owner."""
        return self._ownership.age()

    def valid(self, max_age: float = MAX_AGE_S) -> bool:
        """Whether a call that can't be taken back may begin now."""
        o = self._ownership
        return o.epoch(self.partition) == self._epoch and time.monotonic() - o._proved < max_age


Answers = Callable[[Claim, str, Any], None]
"""Where answers go, from any thread: claim, id of the Perform, answer."""


class Effector(Protocol):
    """What the loop needs of an effector. All methods are called from the loop's thread and return at once."""

    def start(self, answers: Answers) -> None:
        """Called once before anything else."""
        ...

    def submit(self, claim: Claim, performs: Sequence[Perform]) -> None:
        """Take tasks of one partition, in order. The claim says until when."""
        ...

    def capacity(self) -> int:
        """How many more tasks it wants now; at 0 the loop stops reading the lanes that make tasks."""
        ...

    def in_flight(self) -> int:
        """Tasks taken and not yet answered or given up."""
        ...

    def stop(self) -> None:
        """End; what has not begun is given up."""
        ...


class _Counted:
    """Counting tasks, for both effectors here."""

    def __init__(self, limit: int):
        self._limit = limit
        self._count = 0
        self._lock = threading.Lock()
        self._answers: Answers | None = None

    def start(self, answers: Answers) -> None:
        self._answers = answers

    def capacity(self) -> int:
        return max(0, self._limit - self._count)

    def in_flight(self) -> int:
        return self._count

    def _add(self, n: int) -> None:
        with self._lock:
            self._count += n

    def _answer(self, claim: Claim, perform: Perform, answer: Any) -> None:
        """Hand an answer over. None is no answer: the task was given up."""
        if answer is not None and self._answers is not None:
            self._answers(claim, perform.id, answer)
        self._add(-1)


class ThreadEffector(_Counted):
    """Performs tasks in a pool of threads: `call(perform, claim)` returns the answer (None: none)."""

    def __init__(self, call: Callable[[Perform, Claim], Any], threads: int = 8, limit: int = 500):
        super().__init__(limit)
        self._call = call
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="effector")

    def submit(self, claim: Claim, performs: Sequence[Perform]) -> None:
        self._add(len(performs))
        for perform in performs:
            self._pool.submit(self._run, claim, perform)

    def _run(self, claim: Claim, perform: Perform) -> None:
        answer: Any = None
        try:
            if claim.still_owner():
                answer = self._call(perform, claim)
        except Exception as e:
            log.exception("task failed")
            answer = Failed(f"{type(e).__name__}: {e}")
        self._answer(claim, perform, answer)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class AsyncEffector(_Counted):
    """Performs tasks on an event loop in a thread of its own, at most `concurrency` at a time. Override
    `perform`; or `perform_many` to see the tasks of one transaction together; `opened` and `closed`
    for connections that live on the event loop."""

    def __init__(self, concurrency: int = 100, limit: int = 500):
        super().__init__(limit)
        self._concurrency = concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="effector", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    async def opened(self) -> None:
        """Called on the event loop before the first task."""

    async def closed(self) -> None:
        """Called on the event loop at the end."""

    async def perform(self, perform: Perform, claim: Claim) -> Any:
        """Do one task. Returns the answer; None gives it up without one."""
        raise NotImplementedError

    async def perform_many(self, performs: Sequence[Perform], claim: Claim) -> None:
        """Do the tasks of one partition and transaction; every one must end in `answer`."""
        await asyncio.gather(*(self._one(p, claim) for p in performs))

    def answer(self, claim: Claim, perform: Perform, answer: Any) -> None:
        """Give the answer of one task, exactly once each; None: no answer."""
        self._answer(claim, perform, answer)

    def answer_all(self, answered: Sequence[tuple[Claim, Perform, Any]]) -> None:
        """`answer` for several tasks."""
        if self._answers is not None:
            for claim, perform, answer in answered:
                if answer is not None:
                    self._answers(claim, perform.id, answer)
        self._add(-len(answered))

    def start(self, answers: Answers) -> None:
        super().start(answers)
        self._thread.start()
        failed = self._opened.get()
        if failed is not None:
            raise failed

    def submit(self, claim: Claim, performs: Sequence[Perform]) -> None:
        self._add(len(performs))
        self._loop.call_soon_threadsafe(self._accept, claim, list(performs))

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)

    def _accept(self, claim: Claim, performs: list[Perform]) -> None:
        task = self._loop.create_task(self.perform_many(performs, claim))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, perform: Perform, claim: Claim) -> None:
        answer: Any = None
        async with self._gate:
            try:
                if claim.still_owner():
                    answer = await self.perform(perform, claim)
            except Exception as e:
                log.exception("task failed")
                answer = Failed(f"{type(e).__name__}: {e}")
        self._answer(claim, perform, answer)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._gate = asyncio.Semaphore(self._concurrency)
        try:
            self._loop.run_until_complete(self.opened())
        except BaseException as e:
            self._opened.put(e)
            return
        self._opened.put(None)
        self._loop.run_forever()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self.closed())
        self._loop.close()
