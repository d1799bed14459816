"""STREAMS 9, errors of a commit, on real servers. Where the rule can be switched off, the same steps without it
must go wrong."""

import threading
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition

from rondo_common import kafka as clients
from rondo_common.streams import assignment, watchdog
from rondo_common.streams import partitions as partitions_module
from rondo_common.streams.codec import OFFSETS
from rondo_common.streams.commit import Aborted, Transactions
from rondo_common.streams.runtime import FAILED, group_of
from rondo_common.streams.store import Store
from tests.support.stream_rig import Rig, wait_until
from tests.support.toy_stage import Count, Counted

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, data_dir=str(tmp_path))


# 9. Errors of a commit


@pytest.mark.parametrize("fail_after", ["write", "offsets"])
def test_9_an_aborted_batch_is_done_again_once(rig: Rig, fail_after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, failures = Transactions.run, []

    def sometimes(self: Transactions, write: Any, offsets: Any, group: Any) -> None:
        if len(failures) % 2 == 0 and len(failures) < 6:
            failures.append(1)
            producer = self._producer
            producer.begin_transaction()
            write(producer)
            if fail_after == "offsets":
                producer.send_offsets_to_transaction(offsets, group, 10)
            producer.abort_transaction(10)
            raise Aborted("told to")
        failures.append(0)
        run(self, write, offsets, group)

    monkeypatch.setattr(Transactions, "run", sometimes)
    with rig.worker():
        for _ in range(3):
            for i in range(30):
                rig.ask(f"k{i % 3}")
            rig.settle()
        rig.check_exact({"k0": 30, "k1": 30, "k2": 30})
    assert sum(failures) == 3


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_9_offsets_the_broker_never_decides_block_nobody(rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is killed can leave offsets of a committed transaction pending for ever, and drop them
    later. Where to read on is therefore in the states, not asked of the group."""
    if rule == "broken":
        real = assignment.starts_of

        def asked_of_the_group(consumer: Any, wanted: Any) -> Any:
            return real(consumer, {place: (None, first) for place, (_, first) in wanted.items()})

        monkeypatch.setattr(partitions_module, "starts_of", asked_of_the_group)
    with rig.worker():
        for i in range(10):
            rig.ask(f"k{i}")
        rig.settle()
    # the group forgets, as if the offsets had been dropped, and one more transaction stays open
    admin = clients.admin(rig.kafka)
    zero = [TopicPartition(rig.stage.input, p, 0) for p in range(rig.partitions)]
    group = group_of(rig.stage.name)

    def altered() -> bool:  # not before the static member's session is over
        try:
            answer = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, zero)])[group].result()
            return not any(tp.error for tp in answer.topic_partitions)
        except KafkaException:
            return False

    wait_until(altered, "offsets altered")
    with rig.worker():
        rig.ask("k0")
        rig.flush()
        wait_until(lambda: rig.logged()["k0"] >= 2, "it goes on")
        rig.settle()
        total = sum(rig.logged().values())
    assert total == (11 if rule == "kept" else 21)


def test_9_a_view_that_fails_to_take_a_committed_batch_is_restored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis goes away between the commit and the apply."""
    from rondo_common.streams.overlay import Lost

    apply, armed = Store.apply, threading.Event()

    def fails_once(self: Store, changes: Any) -> Any:
        if armed.is_set() and any(c.states for c in changes.values()):
            armed.clear()
            raise Lost("told to")
        return apply(self, changes)

    monkeypatch.setattr(Store, "apply", fails_once)
    with rig.worker():
        for _ in range(5):
            armed.set()
            rig.ask("a")
            rig.settle()
            assert not armed.is_set()
        rig.check_exact({"a": 5})


def test_subscriptions_are_read_from_the_members_metadata() -> None:
    raw = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x03b.c\x00\x00\x00\x00"
    assert assignment.subscribed(raw) == ["a", "b.c"]


def test_9_pending_offsets_of_a_hanging_transaction_block_nobody(rig: Rig) -> None:
    with rig.worker():
        for i in range(10):
            rig.ask(f"k{i}")
        rig.settle()
    hanging = clients.producer(
        rig.kafka, "hanging", transactional_id=f"{rig.stage.name}.hanging", transaction_timeout_ms=600_000
    )
    hanging.init_transactions(30)
    hanging.begin_transaction()
    group = clients.reader(rig.kafka, group_of(rig.stage.name))
    everywhere = [TopicPartition(rig.stage.input, p, 0) for p in range(rig.partitions)]
    wait_until(lambda: _sent(hanging, everywhere, group), "the offsets are pending")
    with pytest.raises(KafkaException):
        group.committed(everywhere, 1.0)
    with rig.worker():
        rig.ask("k0")
        rig.flush()
        wait_until(lambda: rig.logged()["k0"] == 2, "it goes on")
    hanging.abort_transaction(30)
    group.close()


def _sent(producer: Any, offsets: Any, group: Any) -> bool:
    """Offsets without a generation are taken only once the group is empty: the static member's session ends first."""
    try:
        producer.send_offsets_to_transaction(offsets, group.consumer_group_metadata(), 10)
        return True
    except KafkaException:
        producer.abort_transaction(30)
        producer.begin_transaction()
        return False


class Held(Transactions):
    """Stops before it commits, as a process that gets no time."""

    def __init__(self, producer: Producer):
        super().__init__(producer)
        self.stopped, self.go = threading.Event(), threading.Event()

    def _again(self, call: Any, name: str, *more: Any) -> None:
        if name == "commit":
            self.stopped.set()
            self.go.wait()
        super()._again(call, name, *more)


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_2_records_are_in_the_log_before_the_group_takes_their_offsets(
    rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is stopped between "the group has taken the offsets" and its commit, until its partitions are another
    worker's. That one waits for what lies open in the state topic, so it must lie there: else both handle the record.
    The producer lingers, so that without the rule the records are still in this process."""
    if rule == "broken":
        monkeypatch.setattr(Transactions, "_flush", lambda _: None)
    with rig.worker():
        rig.ask("a")
        rig.settle()
    rig.ask("a")
    rig.flush()
    p = rig.view().partition("a")
    place, end = (rig.stage.input, p), clients.end_offsets(clients.admin(rig.kafka), [(rig.stage.input, p)])
    producer = clients.producer(
        rig.kafka, "late", transactional_id=f"{rig.stage.name}.late", transaction_timeout_ms=120_000, linger_ms=60_000
    )
    group = clients.reader(rig.kafka, group_of(rig.stage.name))
    late = Held(producer)
    late.begin_slot()
    producer.begin_transaction()
    wait_until(lambda: _sent(producer, [TopicPartition(*place, 0)], group), "the group is empty")
    producer.abort_transaction(30)

    def write(producer: Producer) -> None:
        states = {"c:a": Count(2), OFFSETS: {rig.stage.input: end[place]}}
        for key, state in states.items():
            producer.produce(rig.stage.state_topic, msgspec.json.encode(state), key, p)
        producer.produce(rig.stage.output, msgspec.json.encode(Counted("a", 2, "late", 0)), "a", p)

    offsets = [TopicPartition(*place, end[place])]
    running = threading.Thread(target=late.run, args=(write, offsets, group.consumer_group_metadata()))
    running.start()
    wait_until(late.stopped.is_set, "stopped before its commit")
    with rig.worker(ready=False) as runner:
        wait_until(lambda: sum(p["live"] for p in runner.progress().values()) >= 3, "the others are live")
        if rule == "broken":
            wait_until(lambda: rig.steps()["a"] == [1, 2], "the new owner handles it too")
        else:
            assert "restoring 1 of 4" in runner.ready()[1]
        late.go.set()
        running.join()
        rig.wait_ready(runner)
        rig.settle()
    assert rig.steps()["a"] == ([1, 2] if rule == "kept" else [1, 2, 2])
    group.close()


def test_9_a_worker_that_hangs_while_it_closes_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "CLOSE_S", 0.5)
    release = threading.Event()

    class Hangs(Consumer):
        def close(self) -> None:
            release.wait(60)
            super().close()

    monkeypatch.setattr(clients, "Consumer", Hangs)
    with rig.worker() as runner:
        runner.ask_stop()
        wait_until(lambda: rig.codes, "the watchdog ends it")
        release.set()
    assert rig.codes == [FAILED]
