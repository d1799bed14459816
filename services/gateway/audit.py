"""rondo.audit.v1: who changed what. Written after the answer is known, never in its way."""

from typing import Any

import msgspec

from rondo_common import ids, kafka, topics
from rondo_common.clock import Clock, iso
from rondo_common.keys import Grant
from rondo_common.records import AuditEntry
from rondo_common.settings import Settings


class Audit:
    """Writes one entry for each call that changes something."""

    def __init__(self, settings: Settings, clock: Clock):
        self._clock = clock
        self._producer: Any = kafka.producer(settings.kafka, "gateway-audit")

    def write(self, who: Grant, trace: str, action: str, target: str, status: int, ip: str | None) -> None:
        now = self._clock.now()
        entry = AuditEntry(who.workspace, ids.derived(trace, "audit"), iso(now), who.id, action, target, status, ip)
        try:
            self._producer.produce(
                topics.AUDIT, key=f"{who.workspace}:{who.id}", value=msgspec.json.encode(entry), timestamp=now
            )
        except BufferError:
            self._producer.flush(0.2)
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(2.0)
