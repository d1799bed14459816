"""Poison stops nobody: what is no JSON object goes to the dead letters and the feed goes on."""

from typing import Any

from rondo_common import kafka, telemetry, topics
from rondo_common.catalogue import TOPICS

log = telemetry.logger(__name__)


class DeadLetters:
    """Writes records that can't be read to their topic's dead letters, where it has some."""

    def __init__(self, bootstrap: str):
        self._bootstrap = bootstrap
        self._producer: Any = None

    def put(self, message: Any, detail: str) -> None:
        """RuntimeError when it was not acknowledged."""
        log.warning("unreadable record", topic=message.topic(), partition=message.partition(), offset=message.offset())
        name = topics.dlq(message.topic())
        if name not in TOPICS:
            return
        headers = {
            "rondo-dlq-reason": "unreadable",
            "rondo-dlq-detail": detail[:500],
            "rondo-dlq-topic": message.topic(),
            "rondo-dlq-partition": str(message.partition()),
            "rondo-dlq-offset": str(message.offset()),
            "rondo-dlq-stage": "insights",
        }
        if self._producer is None:
            self._producer = kafka.producer(self._bootstrap, "insights-dlq")
        self._producer.produce(name, key=message.key(), value=message.value(), headers=headers)
        if self._producer.flush(10):
            raise RuntimeError("the dead letter was not acknowledged")
