"""rondo.captured.v1: which touches were captured, for those who must find a member's messages again
(erasure). A copy beside the inbox, so it never holds a provider's answer up."""

from contextlib import suppress
from typing import Any

import msgspec

from rondo_common import kafka, topics
from rondo_common.records import Captured
from services.capture.model import Message


class Announcer:
    """Writes a record for each message taken. `bootstrap` empty: none is written."""

    def __init__(self, bootstrap: str):
        self._producer: Any = kafka.producer(bootstrap, "capture") if bootstrap else None

    def taken(self, m: Message) -> None:
        if self._producer is None:
            return
        touch = m.args.get("t")
        record = Captured(m.id, m.channel, m.provider, m.received_at, touch)
        value = msgspec.json.encode(record)
        with suppress(BufferError):  # Kafka is away for long: the inbox itself has the message
            self._producer.produce(topics.CAPTURED, key=touch or m.id, value=value, timestamp=m.at)
        self._producer.poll(0)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(1.0)
