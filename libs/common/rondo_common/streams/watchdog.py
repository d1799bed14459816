"""Ends a worker whose Kafka client hangs: nothing in its own reach wakes it."""

import logging
import threading
import time
from collections.abc import Callable

from rondo_common.streams.commit import Transactions

log = logging.getLogger("rondo.streams")

CLOSE_S = 10.0
"""Longer than this no consumer takes to close. librdkafka 2.16 may hang there when the group gives it partitions in
the same moment; a worker that ends with an error would then neither work nor be started again."""
LOOK_S = 1.0


class Watchdog:
    """A thread that looks at one worker's calls. `hung` ends the process, with the code it is given."""

    def __init__(self, stage: str, transactions: Transactions, hung: Callable[[int], None], code: int):
        self._stage, self._transactions, self._hung, self._code = stage, transactions, hung, code
        self._over = threading.Event()
        self._closing: float | None = None
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def closing(self) -> None:
        """From now on only the clients are closed."""
        self._closing = time.monotonic()

    def over(self) -> None:
        """The worker has ended."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            call = self._transactions.hung()
            if self._closing is not None and time.monotonic() - self._closing > CLOSE_S:
                call = "close"
            if call is not None:
                log.critical("%s ends: the Kafka client hangs in %s", self._stage, call)
                self._hung(self._code)
                return
