"""Writing engagement to the log, without ever making a person wait for it.

The producer's own bounded queue keeps what Kafka does not take yet and tries for five minutes. Full,
or later than that, a click or open is lost and counted: nobody's redirect hangs on it.
"""

import asyncio
import threading
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from rondo_common import ids, telemetry, topics
from rondo_common.records import Engagement

QUEUE = 100_000
"""Records that may wait for Kafka."""
POLL_S = 0.05
FLUSH_S = 2.0

WRITTEN = telemetry.counter("rondo_links_engagement_total", "Engagement records by kind and actor", ("kind", "actor"))
LOST = telemetry.counter("rondo_links_lost_total", "Engagement records that Kafka never took")

log = telemetry.logger(__name__)


class Producer(Protocol):
    """The part of confluent_kafka.Producer that is used."""

    def produce(self, *args: Any, **more: Any) -> None: ...
    def poll(self, timeout: float) -> int: ...
    def flush(self, timeout: float) -> int: ...
    def __len__(self) -> int: ...


class Sink:
    """Writes engagement records. `run` is the body of a thread that hears the broker's answers."""

    def __init__(self, producer: Producer):
        self._producer = producer
        self._stop = threading.Event()
        self.late = False
        """Whether somebody waited in vain since the last acknowledgement."""

    def run(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(POLL_S)
        left = self._producer.flush(FLUSH_S)
        if left:
            LOST.inc(left)
            log.error("engagement lost at the end", count=left)

    def stop(self) -> None:
        self._stop.set()

    def waiting(self) -> int:
        """Records not acknowledged yet."""
        return len(self._producer)

    def put(self, e: Engagement, time: int) -> asyncio.Future[bool]:
        """Write a record with timestamp `time` (ms). The future says whether the log has it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()

        def acknowledged(error: object, _: object) -> None:
            if error is None:
                self.late = False
                WRITTEN.labels(e.kind, e.actor).inc()
            else:
                LOST.inc()
                log.error("engagement lost", kind=e.kind, error=str(error))
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_resolve, future, error is None)

        try:
            self._producer.produce(
                topics.ENGAGEMENT,
                key=ids.member_key(e.workspace, e.member_id),
                value=msgspec.json.encode(e),
                headers={
                    "ce_specversion": "1.0",
                    "ce_id": e.id,
                    "ce_source": "/rondo/links",
                    "ce_type": f"engagement.{e.kind}",
                    "ce_subject": e.member_id,
                    "content-type": "application/json",
                },
                timestamp=time,
                on_delivery=acknowledged,
            )
        except BufferError:
            LOST.inc()
            future.set_result(False)
        return future

    async def confirmed(self, future: asyncio.Future[bool], within_s: float) -> bool:
        """Whether the log has it within `within_s` seconds; it goes on trying afterwards."""
        done, _ = await asyncio.wait({future}, timeout=within_s)
        if not done:
            self.late = True
            return False
        return future.result()


def _resolve(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
