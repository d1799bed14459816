"""One Kafka transaction at a time, and what to do when it fails (STREAMS 9).

Retriable errors are tried again; after a commit was asked for, only the commit is, never an abort,
because nobody knows yet which of the two happened. An abortable error aborts: nothing of the batch
happened. Anything else (fenced, fatal) ends the process: its slot belongs to somebody else now, or
the client can't go on; the supervisor starts it again.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

log = logging.getLogger("rondo.streams")

CALL_S = 5.0
"""How long one call waits before it is asked again."""
GIVE_UP_S = 60.0
"""A broker away for longer than this ends the process."""
ABORT_S = 12.0
"""The same for an abort: by then the broker has ended the transaction itself (TRANSACTION_MS), and a process
that starts again ends it at once. librdkafka 2.16 may wait for ever in an abort after a refused record."""
FLUSH_S = 15.0
"""How long records may take to be written; the client gives up after TRANSACTION_MS."""
HUNG_S = 20.0
"""A single call that has not come back by then never will: librdkafka 2.16 may hang in
send_offsets_to_transaction when the broker restarts, whatever time-out it is given. The transaction
is long aborted by the broker then."""


class Aborted(Exception):
    """The transaction was aborted: nothing of it happened."""


class Fatal(Exception):
    """This process must end with code 1."""


class Transactions:
    """Runs transactions on a transactional producer."""

    def __init__(self, producer: Producer):
        self._producer = producer
        self._calling: tuple[str, float] | None = None

    def hung(self) -> str | None:
        """The name of a call that does not come back, for a watchdog in another thread."""
        calling = self._calling
        return calling[0] if calling is not None and time.monotonic() - calling[1] > HUNG_S else None

    def begin_slot(self) -> None:
        """Take over the transactional id: fences whoever had it, ends what it left open."""
        self._again(lambda: self._producer.init_transactions(CALL_S), "init")

    def run(self, write: Callable[[Producer], None], offsets: list[TopicPartition], group: Any) -> None:
        """Write, move the group's offsets, commit. Raises Aborted or Fatal; what `write` raises comes out
        after an abort. `group` is the consumer's metadata: the broker refuses an older generation."""
        if not offsets:
            raise Fatal("a transaction without offsets is not fenced by the group (STREAMS 3)")
        try:
            self._producer.begin_transaction()
        except KafkaException as e:
            raise Fatal(f"begin: {e.args[0]}") from e
        try:
            write(self._producer)
            self._flush()
            self._again(lambda: self._producer.send_offsets_to_transaction(offsets, group, CALL_S), "offsets")
        except Aborted as e:
            self._abort()
            raise e
        except KafkaException as e:
            if e.args[0].fatal():
                raise Fatal(f"write: {e.args[0]}") from e
            self._abort()
            raise Aborted(f"write: {e.args[0]}") from e
        except Fatal:
            raise
        except BaseException:
            self._abort()
            raise
        try:
            self._again(lambda: self._producer.commit_transaction(CALL_S), "commit")
        except Aborted:
            self._abort()
            raise

    def _flush(self) -> None:
        """Have the records in the log before the group is asked to move. Once it has, the transaction may commit
        although the partitions are another worker's by then (this process was stopped in between), and that one
        waits for what lies open in the log when it restores (STREAMS 2), not for what is still to come."""
        deadline = time.monotonic() + FLUSH_S
        while self._producer.flush(CALL_S):
            if time.monotonic() > deadline:
                raise Aborted(f"the broker did not take the records within {FLUSH_S:.0f} s")

    def _abort(self) -> None:
        try:
            self._again(lambda: self._producer.abort_transaction(CALL_S), "abort", ABORT_S)
        except Aborted as e:
            raise Fatal(f"can't abort: {e}") from e

    def _again(self, call: Callable[[], Any], name: str, give_up_s: float = GIVE_UP_S) -> None:
        """Call until it works. Aborted when the transaction has to be aborted, Fatal when nothing helps."""
        deadline = time.monotonic() + give_up_s
        while True:
            self._calling = name, time.monotonic()
            try:
                call()
                return
            except KafkaException as e:
                error: KafkaError = e.args[0]
                if error.txn_requires_abort():
                    raise Aborted(f"{name}: {error}") from e
                if not error.retriable() or time.monotonic() > deadline:
                    raise Fatal(f"{name}: {error}") from e
                log.warning("%s will be asked again: %s", name, error)
                time.sleep(0.02)
            finally:
                self._calling = None


def produce(producer: Producer, **record: Any) -> None:
    """Hand one record to the producer, waiting while its queue is full."""
    while True:
        try:
            producer.produce(**record)
            return
        except BufferError:
            producer.poll(0.05)
