"""Offsets: what lies before each consumer group, and in the dead-letter topics."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rondo_common import kafka, lag, telemetry
from rondo_common.catalogue import TOPICS
from rondo_common.lag import Backlog
from services.dashboard.dead import SUFFIX, Grave

EVERY_S = 2.0
"""Seconds between looks while somebody watches."""
DEAD_EVERY_S = 5.0
READ_UP_TO = 1_000
"""Dead letters of a partition that are read for their reasons; more are only counted."""

log = telemetry.logger(__name__)


class Broker:
    """Looks in a thread of its own: librdkafka's admin calls block, for long when the broker is away.
    What was seen last stays; `seen_at` and `why` say how old it is."""

    def __init__(self, bootstrap: str, processes: Callable[[], list[str]]):
        self._bootstrap, self._processes = bootstrap, processes
        self._stop = threading.Event()
        self._dead_at = float("-inf")
        self.backlog: dict[str, dict[str, Backlog]] = {}
        self.graves: dict[tuple[str, int], Grave] = {}
        self.every_s = EVERY_S
        self.began = time.monotonic()
        self.seen_at: float | None = None
        """When (monotonic seconds) the broker last answered, None before."""
        self.why = ""

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Look until `stop`. Never raises."""
        admin = kafka.admin(self._bootstrap, "dashboard")
        commits = kafka.Commits(self._bootstrap, "dashboard")
        while not self._stop.is_set():
            try:
                self.backlog = lag.backlog(admin, commits, self._processes())
                if time.monotonic() - self._dead_at >= DEAD_EVERY_S:
                    self._look_at_dead(admin)
                    self._dead_at = time.monotonic()
                self.seen_at, self.why = time.monotonic(), ""
            except Exception as e:
                if not self.why:
                    log.warning("the broker can't be asked", error=str(e)[:200])
                self.why = type(e).__name__
            self._stop.wait(self.every_s)

    def _look_at_dead(self, admin: Any) -> None:
        names = [name for name in TOPICS if name.endswith(SUFFIX)]
        places = [(name, p) for name, info in kafka.describe(admin, names).items() for p in range(info.partitions)]
        first, end = kafka.first_offsets(admin, places), kafka.end_offsets(admin, places)
        new: dict[tuple[str, int], Grave] = {}
        unread = []
        for where in places:
            old = self.graves.get(where)
            if old is not None and old.reasons is not None and (old.first, old.end) == (first[where], end[where]):
                new[where] = old
            elif end[where] > first[where]:
                new[where] = Grave(first[where], end[where], None)
                if end[where] - first[where] <= READ_UP_TO:
                    unread.append(where)
        if unread:
            for where, reasons in self._read({w: (first[w], end[w]) for w in unread}).items():
                new[where] = Grave(first[where], end[where], reasons)
        self.graves = new

    def _read(self, spans: dict[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], Counter[str]]:
        """Reasons of the committed records in [first, end) of each partition; those that were not read
        to the end in time are left out."""
        found: dict[tuple[str, int], Counter[str]] = {where: Counter() for where in spans}
        done: set[tuple[str, int]] = set()
        consumer = kafka.reader(self._bootstrap, "dashboard-dlq")
        try:
            consumer.assign([kafka.TopicPartition(*where, first) for where, (first, _) in spans.items()])
            deadline = time.monotonic() + 5.0
            while len(done) < len(spans) and time.monotonic() < deadline and not self._stop.is_set():
                for message in consumer.consume(500, 0.2):
                    where = (message.topic(), message.partition())
                    if message.error() is not None:
                        if kafka.is_eof(message.error()):
                            done.add(where)
                    elif message.offset() < spans[where][1]:
                        reason = dict(message.headers() or ()).get("rondo-dlq-reason", b"no reason given")
                        found[where][reason.decode(errors="replace")] += 1
        finally:
            consumer.close()
        return {where: reasons for where, reasons in found.items() if where in done}
