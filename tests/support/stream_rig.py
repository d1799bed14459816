"""A toy stage on real servers: topics of its own, workers in threads, an oracle's view of the log.

rig = Rig(kafka, redis_url)
with rig.worker():
    rig.ask("a", add=2)
    rig.settle()
assert rig.counts() == {"a": 2}
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import redis
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from rondo_cli import broker
from rondo_common import kafka as clients
from rondo_common.clock import Clock
from rondo_common.settings import Settings
from rondo_common.streams.commit import produce
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.runtime import group_of
from rondo_common.streams.view import StateView, Unavailable
from tests.support.slowness import PATIENT
from tests.support.toy_stage import Ask, Counted, ToyStage

FUTURE = {"message.timestamp.after.max.ms": str(2**63 - 1)}
PATIENCE_S = 40.0


def wait_until(true: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """Poll until `true()` is; its answer. AssertionError naming `what` when that takes too long."""
    deadline = time.monotonic() + PATIENT * patience
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.02)


def _settles(what: str, look: Callable[[], Any], wanted: Any) -> None:
    """Wait until `look()` gives `wanted`; AssertionError with what it gives instead."""
    with suppress(AssertionError):
        wait_until(lambda: look() == wanted, what, 20)
        return
    found = look()
    wrong = {k: (found.get(k), wanted.get(k)) for k in {*found, *wanted} if found.get(k) != wanted.get(k)}
    assert not wrong, f"{what}, found and wanted: {wrong}"


class Rig:
    """One toy stage with its topics and group. `stage` may be replaced before workers start."""

    def __init__(
        self, kafka: str, redis_url: str, partitions: int = 4, stage: ToyStage | None = None, data_dir: str = ""
    ):
        self.kafka, self.redis_url, self.partitions = kafka, redis_url, partitions
        self.stage = stage or ToyStage(f"toy-{uuid.uuid4().hex[:8]}")
        self.data_dir = data_dir or f"/tmp/rondo-test-{self.stage.name}"
        self.redis = redis.Redis.from_url(redis_url)
        self.producer = clients.producer(kafka, "test")
        self.codes: list[int] = []
        self._undelivered: list[Any] = []
        self._admin = clients.admin(kafka)
        self._group = clients.reader(kafka, group_of(self.stage.name))
        topics = {t: (partitions, 1, FUTURE) for lane in self.stage.lanes for t in lane}
        topics |= {f"{t}.dlq": settings for t, settings in topics.items()}
        topics[self.stage.output] = (partitions, 1, FUTURE)
        compact = {**FUTURE, "cleanup.policy": "compact"}
        topics[self.stage.state_topic] = (partitions, 1, compact)
        broker.create_topics(kafka, topics)

    def settings(self, slot: str = "0", **more: Any) -> Settings:
        return Settings(
            service=self.stage.name,
            slot=slot,
            kafka=self.kafka,
            redis=self.redis_url,
            partitions=self.partitions,
            data_dir=self.data_dir,
            **more,
        )

    # workers

    @contextmanager
    def worker(
        self, slot: str = "0", clock: Any = None, effector: Any = None, ready: bool = True
    ) -> Iterator[StageRunner]:
        """A worker in a thread; stopped at the end."""
        runner = StageRunner(
            self.stage, self.settings(slot), clock or Clock(), effector, on_exit=self.codes.append
        ).start()
        try:
            if ready:
                self.wait_ready(runner)
            yield runner
        finally:
            runner.stop()

    def wait_ready(self, *runners: StageRunner) -> None:
        for runner in runners:
            wait_until(lambda r=runner: r.ready()[0] or r.exit_code is not None, f"ready: {runner.ready()}")

    # putting in

    def ask(self, key: str, do: str = "", time: int = 0, topic: str = "", partition: int = -1, **more: Any) -> None:
        self.put(key, msgspec.json.encode(Ask(key, do=do, **more)), time, topic, partition)

    def put(
        self, key: str, value: bytes, time: int = 0, topic: str = "", partition: int = -1, headers: Any = None
    ) -> None:
        produce(
            self.producer,
            topic=topic or self.stage.input,
            value=value,
            key=key,
            partition=partition,
            timestamp=time,
            headers=headers or [],
            on_delivery=self._delivered,
        )

    def _delivered(self, error: Any, message: Message) -> None:
        if error is not None:
            self._undelivered.append(error)

    def flush(self) -> None:
        assert self.producer.flush(30) == 0
        assert not self._undelivered, f"not written: {self._undelivered[:3]}, {len(self._undelivered)} in all"

    # looking

    def lag(self) -> dict[tuple[str, int], int]:
        """Records not yet processed, as anybody outside sees them: end minus the group's offset."""
        places = [(topic, p) for lane in self.stage.lanes for topic in lane for p in range(self.partitions)]
        done = self.committed()
        ends = clients.end_offsets(self._admin, places, committed=True)
        first = clients.first_offsets(self._admin, places)
        return {place: ends[place] - done.get(place, first[place]) for place in places}

    def committed(self) -> dict[tuple[str, int], int]:
        """The group's committed offsets, where there are any."""
        places = [TopicPartition(t, p) for lane in self.stage.lanes for t in lane for p in range(self.partitions)]
        try:
            found = self._group.committed(places, 5.0)
        except KafkaException:
            return {}
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def settle(self, patience: float = PATIENCE_S) -> None:
        """Wait until everything sent so far is processed."""
        self.flush()
        wait_until(lambda: not any(self.lag().values()), f"drained {self.stage.name}", patience)

    def view(self) -> StateView:
        return StateView(self.redis, self.stage.name, self.stage.types, self.partitions)

    def counts(self) -> dict[str, int]:
        """Count by key, from Redis, as soon as all partitions can be read."""
        return wait_until(self._counts, "the view is available")[0]

    def _counts(self) -> tuple[dict[str, int]] | None:
        found: dict[str, int] = {}
        try:
            for partition in range(self.partitions):
                cursor: str | None = ""
                while cursor is not None:
                    page, cursor = self.view().scan("c:", partition, cursor, 500)
                    for key, value in page:
                        assert key[2:] not in found, f"{key} lies in two partitions"
                        found[key[2:]] = value.n
        except Unavailable:
            return None
        return (found,)

    def logged(self) -> dict[str, int]:
        """Count by key, from the state topic."""
        states: dict[str, bytes | None] = {}
        for m in self.read(self.stage.state_topic):
            states[m.key().decode()] = m.value()
        return {k[2:]: msgspec.json.decode(v)["n"] for k, v in states.items() if k.startswith("c:") and v is not None}

    def read(self, topic: str) -> list[Message]:
        """Every committed record of a topic, by partition and offset."""
        consumer = clients.reader(self.kafka, f"test-{uuid.uuid4().hex[:8]}")
        try:
            consumer.assign([TopicPartition(topic, p, 0) for p in range(self.partitions)])
            left = set(range(self.partitions))
            found: list[Message] = []
            deadline = time.monotonic() + PATIENT * PATIENCE_S
            while left:
                assert time.monotonic() < deadline, f"can't read {topic} to its end"
                for m in consumer.consume(5000, 0.1):
                    error = m.error()
                    if error is None:
                        found.append(m)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(m.partition())
                    else:
                        raise AssertionError(str(error))
            return sorted(found, key=lambda m: (m.partition(), m.offset()))
        finally:
            consumer.close()

    def check_sent(self, expected: Counter[str]) -> None:
        """The input holds what was sent: else it is not the loop that lost it."""
        found = Counter(m.key().decode() for m in self.read(self.stage.input))
        assert found == expected, f"input, found and wanted: {found - expected}, {expected - found}"

    def outputs(self) -> list[Counted]:
        return [msgspec.json.decode(m.value(), type=Counted) for m in self.read(self.stage.output)]

    def steps(self) -> dict[str, list[int]]:
        """The counts emitted, by key, in order. Without loss or repeat each is 1, 2, 3 ..."""
        found: dict[str, list[int]] = {}
        for m in self.read(self.stage.output):
            found.setdefault(m.key().decode(), []).append(msgspec.json.decode(m.value())["n"])
        return found

    def check_exact(self, expected: dict[str, int]) -> None:
        """State, log and output all say `expected`; no output is missing or there twice. Each may follow a moment
        later: a transaction's markers reach its partitions one by one, the group's offsets perhaps first; and after
        a kill the view's partition is restored."""
        steps = {k: list(range(1, n + 1)) for k, n in expected.items()}
        _settles("log", self.logged, expected)
        _settles("outputs", self.steps, steps)
        _settles("view", self.counts, expected)

    def flush_redis(self) -> None:
        """Wipe this stage's keys all at once (other tests share the server)."""
        keys = list(self.redis.scan_iter(f"{{{self.stage.name}:*", count=10_000))
        if keys:
            self.redis.delete(*keys)


class Feeder(threading.Thread):
    """Sends records at a rate in a thread and counts what it sent."""

    def __init__(self, rig: Rig, rate: float, keys: Sequence[str]):
        super().__init__(daemon=True)
        self.rig, self.rate, self.keys = rig, rate, keys
        self.sent: Counter[str] = Counter()
        self._halt = threading.Event()

    def run(self) -> None:
        begin, n = time.monotonic(), 0
        while not self._halt.is_set():
            due = int((time.monotonic() - begin) * self.rate)
            while n < due:
                key = self.keys[n % len(self.keys)]
                self.rig.ask(key)
                self.sent[key] += 1
                n += 1
            self.rig.producer.poll(0)
            time.sleep(0.002)

    def finish(self) -> Counter[str]:
        self._halt.set()
        self.join()
        self.rig.flush()
        return self.sent
