"""Reading the log in rounds: all there is, then nothing until the next round.

A fetch that waits for records costs the broker at every write to one of the partitions it names, and
this service names a hundred: it has to look at all of them again, whether enough has come by now. So
between two rounds no fetch is under way (docs/decisions/0025-readers-in-rounds.md).
"""

from collections.abc import Callable, Mapping
from typing import Any

from rondo_common import kafka

Place = tuple[str, int]

_FETCH = {"fetch_wait_max_ms": 10}
"""Within a round: what is there comes at once, and a fetch that finds nothing has come to the end."""
AT_ONCE = 2_000
"""Records taken from the client at a time."""


class LogReader:
    """One consumer of many partitions, without a group. `take` of a round is given each record."""

    def __init__(self, bootstrap: str, group: str):
        self._consumer = kafka.reader(bootstrap, group, **_FETCH)
        self._places: list[kafka.TopicPartition] = []
        self._left: set[Place] = set()
        """Where this round has not come to the end yet; empty between two rounds."""
        self.ends: dict[Place, int] = {}
        """Where the log ended when it was last read."""

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions. KafkaException when there is no such topic."""
        found = self._consumer.list_topics(topic, timeout=kafka.TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise kafka.KafkaException(found.error)
        return list(found.partitions)

    def assign(self, starts: Mapping[Place, int]) -> None:
        """Read from these offsets on."""
        self._consumer.assign([kafka.TopicPartition(*place, offset) for place, offset in starts.items()])
        self._places = [kafka.TopicPartition(*place) for place in starts]
        self._left = set(starts)

    @property
    def amid(self) -> bool:
        """Whether a round was left before its end: there is more to read."""
        return bool(self._left)

    def round(self, take: Callable[[Any], None], go_on: Callable[[], bool]) -> None:
        """Read to where each partition ends, or until `go_on` is false; then the next call goes on from there.
        KafkaException when the broker refuses."""
        if not self._left:
            self._left = {(place.topic, place.partition) for place in self._places}
            self._consumer.resume(self._places)
        while self._left and go_on():
            for message in self._consumer.consume(AT_ONCE, 0.1):
                error = message.error()
                if error is None:
                    take(message)
                elif kafka.is_eof(error):
                    where = message.topic(), message.partition()
                    self.ends[where] = message.offset()
                    self._left.discard(where)
                else:
                    raise kafka.KafkaException(error)
        if not self._left:
            self._consumer.pause(self._places)

    def commit(self, offsets: list[kafka.TopicPartition]) -> None:
        """Say how far the tables are, for the eye."""
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        self._consumer.close()
