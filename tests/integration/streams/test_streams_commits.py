"""STREAMS 9, errors of a commit, on real servers. Where the rule can be switched off, the same steps without it
must go wrong."""

import threading
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from rondo_common import kafka as clients
from rondo_common.streams import assignment
from rondo_common.streams import partitions as partitions_module
from rondo_common.streams.commit import Aborted, Transactions
from rondo_common.streams.runtime import group_of
from rondo_common.streams.store import Store
from tests.support.stream_rig import Rig, wait_until

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
