"""The sink that writes to Kafka: librdkafka's plain producer, its acknowledgements, and a bound.

Everything happens in the event loop's thread. librdkafka sends and receives in threads of its own;
its callbacks run inside `poll`, which the loop calls after each request and every TICK_S while
records are under way. A thread of ours that waits in `poll` would have to take Python's lock from
the loop for every single record: at 40,000 a second the two spent their time handing it over. (For
the same reason there is one latch a request, not a future a record; and confluent-kafka's asyncio
class is not used, as it can deadlock.)

What is under way is bounded by count and bytes, and by time: when records wait and nothing has been
acknowledged for STALL_S, new requests are told 503 at once instead of joining the queue. Requests
that already wait hear by themselves within ACK_MS.
"""

import asyncio
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
LINGER_MS = 1.5
"""How long librdkafka waits for more records of a partition. Each partition is a request of its own to
the broker, which costs more than the records in it: at 1 ms single calls reach 10,000 a second, at
1.5 15,000; more would be felt by callers that come one at a time."""
_OVERHEAD = 500
"""Bytes a record costs beside its value: key, headers, librdkafka's own."""
_PROBE_S = 1.0
TICK_S = 0.001
"""Pause between two looks for acknowledgements while any are awaited."""
_IDLE_S = 0.1
_FLUSH_S = 2.0

UNDER_WAY = telemetry.gauge("rondo_ingest_in_flight_records", "Records that wait for Kafka's acknowledgement")
ACKED = telemetry.histogram("rondo_ingest_ack_seconds", "Wait for Kafka's acknowledgement of a request")
SHED = telemetry.counter("rondo_ingest_shed_total", "Requests answered 503", ("reason",))

log = telemetry.logger(__name__)


class _Latch:
    """Counts the acknowledgements of one request; called from inside `poll`."""

    __slots__ = ("begun", "bytes", "error", "future", "left", "records", "settle")

    def __init__(self, records: int, size: int, future: asyncio.Future[None], settle: Callable[["_Latch"], None]):
        self.left = self.records = records
        self.bytes = size
        self.future = future
        self.settle = settle
        self.error: Any = None
        self.begun = time.monotonic()

    def __call__(self, error: Any, _: Any) -> None:
        if error is not None:
            self.error = error
        self.left -= 1
        if self.left == 0:
            self.settle(self)


class KafkaSink:
    """See the module. Make and use it inside the event loop; keep `run` running, `close` it at the end."""

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
            linger_ms=LINGER_MS,
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
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._reachable = False
        self._fatal: str | None = None

    async def write(self, messages: Sequence[Message], at: int) -> None:
        """See Sink.write."""
        size = _OVERHEAD * len(messages)
        for m in messages:
            size += len(m.value)
        self._admit(len(messages), size)
        latch = _Latch(len(messages), size, self._loop.create_future(), self._settle)
        if not self._records:
            self._progress = latch.begun
        self._records += latch.records
        self._bytes += size
        produce = self._producer.produce
        sent = 0
        try:
            for m in messages:
                produce(m.topic, m.value, m.key, on_delivery=latch, timestamp=at, headers=m.headers)
                sent += 1
        except Exception as e:
            log.error("produce failed", error=str(e))
            for _ in range(len(messages) - sent):
                latch(e, None)
        self._look()
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

    async def run(self) -> None:
        """Watch over the producer until cancelled. Raises when it can't go on, so that the process is
        started anew."""
        while True:
            self._producer.poll(0)
            UNDER_WAY.set(self._records)
            if self._fatal:
                raise RuntimeError(f"Kafka producer: {self._fatal}")
            if not self._reachable:
                await asyncio.to_thread(self._probe)
            await asyncio.sleep(_IDLE_S if self._reachable else _PROBE_S)

    async def close(self) -> None:
        """Wait a little for what is under way."""
        deadline = time.monotonic() + _FLUSH_S
        while self._records and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self._records:
            log.warning("ending with records not acknowledged", records=self._records)

    def _look(self) -> None:
        """Take the acknowledgements that are there; come back while more are awaited."""
        self._producer.poll(0)
        if self._records and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._look()

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

    def _settle(self, latch: _Latch) -> None:
        self._records -= latch.records
        self._bytes -= latch.bytes
        self._progress = time.monotonic()
        if latch.error is None:
            self._reachable = True
        if not latch.future.done():
            latch.future.set_result(None)

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
