"""From the consumer's messages to records in their queues."""

import logging
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from rondo_common import kafka
from rondo_common.stage import Record
from rondo_common.streams.commit import Fatal
from rondo_common.streams.inputs import Inputs, Queue

log = logging.getLogger("rondo.streams")

_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


def take(messages: Iterable[Message], queues: Mapping[kafka.Partition, Queue], stage: str) -> None:
    """Queue what the consumer gave. Fatal when it can't go on."""
    for message in messages:
        place = message.topic(), message.partition()
        queue = queues.get(place)
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                _fail(message, error, stage)
            elif queue is not None:
                queue.at_end(message.offset())
        elif queue is not None:
            queue.records.append(record(message, *place))


def record(message: Message, topic: str, partition: int) -> Record:
    """A message as handlers see it. Bytes that are no UTF-8 are shown as U+FFFD, no value as an empty one."""
    key, headers = message.key(), message.headers()
    try:
        name = key.decode() if key else ""
        texts = {k: v.decode() for k, v in headers} if headers else {}
    except (UnicodeDecodeError, AttributeError):
        name = key.decode(errors="replace") if key else ""
        texts = {k: v.decode(errors="replace") for k, v in headers or () if v is not None}
    return Record(topic, partition, message.offset(), name, message.value() or b"", message.timestamp()[1], texts)


def leave(messages: Iterable[Message]) -> None:
    """These came from an assignment that is gone: nothing of them counts, but that the consumer can't go on. It says
    so once only, and hands out nothing more: a worker that missed it would stand idle for ever."""
    for message in messages:
        if message.error() is not None:
            _fatal(message.error())


def _fatal(error: KafkaError) -> None:
    if error.fatal() or error.code() == KafkaError._FATAL:  # fenced: somebody else has this slot
        raise Fatal(f"consumer: {error}")


def _fail(message: Message, error: KafkaError, stage: str) -> None:
    _fatal(error)
    code = error.code()
    if code == KafkaError._AUTO_OFFSET_RESET:
        raise Fatal(f"{message.topic()} {message.partition()}: the next record is gone from the log: {error}")
    if code in _GONE:
        raise Fatal(f"input topic: {error}")
    log.warning("%s: consumer: %s", stage, error)


def balance(consumer: Consumer, inputs: Inputs) -> None:
    """Pause queues that hold enough, so that what waits does not fill the memory; resume the others."""
    for pause, queues in ((True, list(inputs.crowded())), (False, list(inputs.thirsty()))):
        if queues:
            (consumer.pause if pause else consumer.resume)([TopicPartition(q.topic, q.partition) for q in queues])
            for queue in queues:
                queue.paused = pause


def seek(consumer: Consumer, to: TopicPartition) -> None:
    """Move an assigned, paused partition. It takes a moment after an assignment until that is possible."""
    deadline = time.monotonic() + 10.0
    while True:
        try:
            consumer.seek(to)
            return
        except KafkaException as e:
            if e.args[0].code() not in (KafkaError._STATE, KafkaError._TIMED_OUT) or time.monotonic() > deadline:
                raise Fatal(f"can't seek to {to}: {e.args[0]}") from e
            time.sleep(0.01)
