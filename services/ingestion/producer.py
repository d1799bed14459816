"""The sink that writes to Kafka: librdkafka's plain producer, its acknowledgements, and a bound.

The producer's callbacks run in one thread of ours (`run`), which counts a request's records down and
hands finished requests to the event loop in one call per poll. A request is one latch, not a future
per record. (confluent-kafka's asyncio class is not used: it can deadlock.)

What is under way is bounded by count and bytes, and by time: when records wait and nothing has been
acknowledged for STALL_S, new requests are told 503 at once instead of joining the queue. Requests
that already wait hear by themselves within ACK_MS.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rondo_common import kafka, telemetry
from rondo_common.problems import unavailable
from rondo_common.topics import EVENTS
from services.ingestion.model import Message

MAX_RECORDS = 100_000
MAX_BYTES = 64 * 1024 * 1024
STALL_S = 3.0
ACK_MS = 10_000
"""Longest wait for an acknowledgement; then librdkafka gives the record up and the caller hears 503."""
RETRY_AFTER_S = 1
_OVERHEAD = 500
"""Bytes a record costs beside its value: key, headers, librdkafka's own."""
_PROBE_S = 1.0

UNDER_WAY = telemetry.gauge("rondo_ingest_in_flight_records", "Records that wait for Kafka's acknowledgement")
ACKED = telemetry.histogram("rondo_ingest_ack_seconds", "Wait for Kafka's acknowledgement of a request")
SHED = telemetry.counter("rondo_ingest_shed_total", "Requests answered 503", ("reason",))

log = telemetry.logger(__name__)


class _Latch:
    """Counts the acknowledgements of one request; called by librdkafka's thread."""

    __slots__ = ("begun", "bytes", "done", "error", "future", "left", "records")

    def __init__(self, records: int, bytes: int, future: asyncio.Future[None], done: list["_Latch"]):
        self.left = self.records = records
        self.bytes = bytes
        self.future = future
        self.done = done
        self.error: Any = None
        self.begun = time.monotonic()

    def __call__(self, error: Any, _: Any) -> None:
        if error is not None:
            self.error = error
        self.left -= 1
        if self.left == 0:
            self.done.append(self)


class KafkaSink:
    """See the module. `write` and `ready` belong to the event loop; `run` to a thread of its own."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
        make: Callable[..., Any] = kafka.producer,
    ):
        self._producer = make(
            bootstrap,
            client_id,
            linger_ms=1,
            message_timeout_ms=ACK_MS,
            queue_buffering_max_messages=2 * max_records,
            queue_buffering_max_kbytes=4 * max_bytes // 1024,
            batch_num_messages=10_000,
            error_cb=self._on_error,
        )
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._records = 0
        self._bytes = 0
        self._progress = time.monotonic()
        self._done: list[_Latch] = []
        self._abandoned: list[tuple[_Latch, int, Exception]] = []
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._reachable = False
        self._fatal: str | None = None

    async def write(self, messages: Sequence[Message], at: int) -> None:
        """See Sink.write."""
        size = _OVERHEAD * len(messages)
        for m in messages:
            size += len(m.value)
        self._admit(len(messages), size)
        latch = _Latch(len(messages), size, self._loop.create_future(), self._done)
        if not self._records:
            self._progress = latch.begun
        self._records += latch.records
        self._bytes += size
        produce = self._producer.produce
        sent = 0
        try:
            for topic, key, value, headers in messages:
                produce(topic, value, key, on_delivery=latch, timestamp=at, headers=headers)
                sent += 1
        except Exception as e:
            log.error("produce failed", error=str(e))
            self._abandoned.append((latch, len(messages) - sent, e))
        await latch.future
        ACKED.observe(time.monotonic() - latch.begun)
        if latch.error is not None:
            SHED.labels("not_acknowledged").inc()
            raise unavailable("Kafka", "The write was not acknowledged; send it again", RETRY_AFTER_S)

    def ready(self) -> tuple[bool, str]:
        """See Sink.ready."""
        if self._fatal:
            return False, f"the producer failed: {self._fatal}"
        if not self._reachable:
            return False, "Kafka does not answer"
        full = self._full(0, 0)
        return (False, full) if full else (True, "")

    def run(self) -> None:
        """Serve acknowledgements until `stop`, then write out what is left. Raises when the producer can't
        go on, so that the process is started anew."""
        producer = self._producer
        probed = 0.0
        while not self._stop.is_set():
            producer.poll(0.1)
            self._hand_over()
            if self._fatal:
                raise RuntimeError(f"Kafka producer: {self._fatal}")
            if not self._reachable and time.monotonic() - probed > _PROBE_S:
                self._probe()
                probed = time.monotonic()
        producer.flush(2.0)
        self._hand_over()

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()

    def _full(self, records: int, size: int) -> str:
        if self._records + records > self._max_records or self._bytes + size > self._max_bytes:
            return "Kafka falls behind: too much is under way"
        if self._records and time.monotonic() - self._progress > STALL_S:
            return "Kafka has acknowledged nothing for a while"
        return ""

    def _admit(self, records: int, size: int) -> None:
        # an empty queue takes anything, so that no batch is too large for a small bound
        if self._fatal or (self._records and (full := self._full(records, size))):
            SHED.labels("fatal" if self._fatal else "behind").inc()
            raise unavailable("Kafka", self._fatal or full, RETRY_AFTER_S)

    def _hand_over(self) -> None:
        while self._abandoned:
            # records that were never handed to librdkafka; counted down here, as latches belong to this thread
            latch, unsent, error = self._abandoned.pop()
            for _ in range(unsent):
                latch(error, None)
        if self._done:
            finished = self._done[:]
            del self._done[: len(finished)]
            self._reachable = self._reachable or any(latch.error is None for latch in finished)
            # RuntimeError: the loop has ended, nobody waits any more
            try:
                self._loop.call_soon_threadsafe(self._settle, finished)
            except RuntimeError:
                log.warning("acknowledgements after the end", requests=len(finished))

    def _settle(self, finished: list[_Latch]) -> None:
        for latch in finished:
            self._records -= latch.records
            self._bytes -= latch.bytes
            if not latch.future.done():
                latch.future.set_result(None)
        self._progress = time.monotonic()
        UNDER_WAY.set(self._records)

    def _probe(self) -> None:
        try:
            self._reachable = self._producer.list_topics(EVENTS, 1.0).topics[EVENTS].error is None
        except Exception as e:
            log.warning("Kafka does not answer", error=str(e))

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._fatal = str(error)
        elif error.name() == "_ALL_BROKERS_DOWN":
            self._reachable = False
