"""Records on their way from the consumer to a batch, by topic and partition, in lanes.

A record stays in its queue until the batch that held it has committed: a batch that is dropped or
aborted is simply tried again, and the offset that is committed is always the one after the last
processed record, never the consumer's reading position (STREAMS 3).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from rondo_common.stage import Record, Stage

WAIT_MIN_S = 0.02
WAIT_MAX_S = 1.0


class Queue:
    """One input topic-partition."""

    __slots__ = ("backoff", "caught_up", "end", "eof", "held_until", "lane", "next", "partition", "paused", "records")
    __slots__ += ("committed", "handled_time", "topic")

    def __init__(self, topic: str, partition: int, lane: int, start: int, end: int):
        self.topic, self.partition, self.lane = topic, partition, lane
        self.records: deque[Record] = deque()
        self.next = start
        """Offset after the last processed record."""
        self.committed = -1
        """What the group's committed offset is, as far as this worker moved it."""
        self.end = end
        """End of the log when the partition was assigned."""
        self.eof = -1
        """Where the consumer last met the end of the log; only commit markers lie between."""
        self.caught_up = start >= end
        """Whether everything that lay there at the assignment has been handled."""
        self.held_until = 0.0
        self.backoff = 0.0
        self.paused = False
        self.handled_time = -1

    def place(self, start: int) -> None:
        """The partition is restored: its states hold all records before `start`."""
        while self.records and self.records[0].offset < start:
            self.records.popleft()
        self.next = max(self.next, start)
        self._settle()

    def take(self, count: int, committed: bool = True) -> None:
        """The first `count` records are done; `committed`: the group's offset was moved with them."""
        records = self.records
        for _ in range(count):
            record = records.popleft()
        self.next = record.offset + 1
        if committed:
            self.committed = self.next
        self.handled_time = record.time
        self.backoff = 0.0
        self._settle()

    def at_end(self, offset: int) -> None:
        self.eof = offset
        self._settle()

    def _settle(self) -> None:
        if not self.records and self.eof > self.next:
            self.next = self.eof
        if self.next >= self.end or (not self.records and self.eof >= self.next):
            self.caught_up = True

    def hold(self, now: float) -> None:
        """The first record waits: leave this queue alone for a while, longer each time, up to 1 s."""
        self.backoff = min(WAIT_MAX_S, self.backoff * 2 or WAIT_MIN_S)
        self.held_until = now + self.backoff


class Inputs:
    """The queues of all assigned partitions."""

    def __init__(self, stage: Stage, batch: int, effects: bool):
        self._stage = stage
        self._batch = batch
        self.lane_of = {topic: number for number, lane in enumerate(stage.lanes) for topic in lane}
        lanes = range(len(stage.lanes))
        self._effect_lanes: frozenset[int] = frozenset(
            getattr(stage, "effect_lanes", lanes[1:] if len(lanes) > 1 else lanes) if effects else ()
        )
        self._first_alone: bool = getattr(stage, "first_alone", False)
        self._unhurried: frozenset[str] = getattr(stage, "unhurried", frozenset())
        self.queues: dict[tuple[str, int], Queue] = {}
        self._by_topic: dict[str, list[Queue]] = {}
        self._by_partition: dict[int, list[Queue]] = {}
        self._turn = 0

    @property
    def topics(self) -> list[str]:
        return list(self.lane_of)

    def assign(self, starts: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Begin anew with these topic-partitions: where to start and where the log ends now."""
        self.queues = {
            (topic, p): Queue(topic, p, self.lane_of[topic], start, end) for (topic, p), (start, end) in starts.items()
        }
        self._by_partition, self._by_topic = {}, {}
        for queue in self.queues.values():
            self._by_topic.setdefault(queue.topic, []).append(queue)
        for queue in sorted(self.queues.values(), key=lambda q: q.lane):
            self._by_partition.setdefault(queue.partition, []).append(queue)

    def clear(self) -> None:
        self.assign({})

    def clear_records(self) -> None:
        """Forget the records at hand, keep the places."""
        for queue in self.queues.values():
            queue.records.clear()

    def of(self, partition: int) -> list[Queue]:
        """Queues of a partition, highest lane first."""
        return self._by_partition[partition]

    def unhurried(self) -> bool:
        """Whether there are records at hand, and only such as may wait a little for others (`Stage.unhurried`)."""
        found = False
        for topic, queues in self._by_topic.items():
            if any(q.records for q in queues):
                if topic not in self._unhurried:
                    return False
                found = True
        return found

    def buffered(self) -> int:
        return sum(len(q.records) for q in self.queues.values())

    def release(self, partition: int) -> None:
        """What the partition's waiting records wait for may be here: offer them again now."""
        for queue in self.of(partition):
            queue.held_until = 0.0

    def select(self, live: Iterable[int], now: float, capacity: int) -> dict[int, list[Record]]:
        """The records of the next batch by partition, highest lane first; they stay queued. A lower lane
        gets its turn in a partition when all records at hand of the higher lanes are in the batch and
        what lay there at the assignment is handled (STREAMS 25). `capacity` bounds the records of
        lanes that make work for the effector."""
        chosen: dict[int, list[Record]] = {}
        rest = self._batch
        limits = dict(self._stage.lane_limit)
        partitions = sorted(live)
        self._turn += 1
        at = self._turn % len(partitions) if partitions else 0
        order = partitions[at:] + partitions[:at]
        blocked: set[int] = set()
        for lane in range(len(self._stage.lanes)):
            behind: set[int] = set()
            for partition in order:
                if partition in blocked:
                    continue
                for queue in self.of(partition):
                    if queue.lane != lane or queue.held_until > now:
                        continue
                    count = min(len(queue.records), rest, limits.get(lane, rest))
                    if lane in self._effect_lanes:
                        count = min(count, capacity)
                        capacity -= count
                    if count:
                        records = queue.records
                        taken = list(records) if count == len(records) else [records[i] for i in range(count)]
                        chosen.setdefault(partition, []).extend(taken)
                        rest -= count
                        if lane in limits:
                            limits[lane] -= count
                    if count < len(queue.records) or not queue.caught_up:
                        behind.add(partition)
            blocked |= behind
            if lane == 0 and chosen and self._first_alone:
                break
        return chosen

    def horizon(self, partition: int, now: float) -> int | None:
        """Up to which time (ms) timers of the partition may fire: nothing older than that waits to be
        handled. None without a bound, -1 when that is not known yet (STREAMS 11)."""
        bound: int | None = None
        for queue in self.of(partition):
            if queue.held_until > now or queue.backoff:
                continue
            if queue.records:
                time = queue.records[0].time
            elif not queue.caught_up:
                time = queue.handled_time
            else:
                continue
            bound = time if bound is None else min(bound, time)
        return bound

    def crowded(self) -> Iterator[Queue]:
        """Queues that hold enough: the consumer is to pause them."""
        return (q for q in self.queues.values() if not q.paused and len(q.records) >= self._batch)

    def thirsty(self) -> Iterator[Queue]:
        """Paused queues that have room again."""
        return (q for q in self.queues.values() if q.paused and len(q.records) < self._batch // 2)
