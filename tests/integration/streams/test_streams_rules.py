"""STREAMS 1 to 9 on real servers. Where a rule can be switched off, the same steps without it must go
wrong: then the test can fail."""

import threading
import time
from typing import Any

import msgspec
import pytest
from confluent_kafka import TopicPartition

from rondo_common import kafka as clients
from rondo_common.streams import restore
from rondo_common.streams.commit import Aborted, Fatal, Transactions
from rondo_common.streams.runtime import FAILED, REFUSED, group_of, run_stage
from rondo_common.streams.store import Store, names
from rondo_common.streams.view import Unavailable
from tests.support.stream_rig import Rig, wait_until
from tests.support.toy_stage import Count, ToyStage

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, data_dir=str(tmp_path))


# 1. Read with the position


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_1_a_flush_under_a_live_worker_loses_nothing(rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = threading.Event()
    read = Store.read

    def read_after_flush(self: Store, wanted: Any, expected: Any) -> Any:
        if flush.is_set() and any(wanted.values()):
            flush.clear()
            rig.flush_redis()
            if rule == "broken":
                return {p: dict.fromkeys(keys) for p, keys in wanted.items()}
        return read(self, wanted, expected)

    monkeypatch.setattr(Store, "read", read_after_flush)
    with rig.worker():
        for _ in range(20):
            rig.ask("a")
        rig.settle()
        flush.set()
        rig.ask("a")
        rig.settle()
        assert not flush.is_set()
        assert rig.logged()["a"] == (21 if rule == "kept" else 1)
        if rule == "kept":
            rig.check_exact({"a": 21})


# 2. Restore in order


def _open_state(rig: Rig, n: int) -> Any:
    """A predecessor whose commit is on its way: its state record is written, not yet decided."""
    producer = clients.transactional_producer(rig.kafka, f"{rig.stage.name}.gone")
    producer.init_transactions(30)
    producer.begin_transaction()
    partition = rig.view().partition("a")
    producer.produce(rig.stage.state_topic, msgspec.json.encode(Count(n)), "c:a", partition)
    producer.flush(10)
    return producer


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_2_a_late_commit_of_a_predecessor_is_not_overlooked(
    rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rule == "broken":
        ends = clients.end_offsets
        monkeypatch.setattr(
            restore.kafka, "end_offsets", lambda admin, places, committed=True: ends(admin, places, True)
        )
    late = _open_state(rig, 41)
    with rig.worker(ready=False) as runner:
        if rule == "kept":
            wait_until(lambda: len(runner.progress()) == 4, "assigned")
            wait_until(lambda: sum(p["live"] for p in runner.progress().values()) == 3, "the others are live")
            assert not runner.ready()[0] and "restoring 1 of 4" in runner.ready()[1]
        else:
            rig.wait_ready(runner)
        late.commit_transaction(30)
        rig.wait_ready(runner)
        rig.ask("a")
        rig.settle()
    assert rig.logged()["a"] == (42 if rule == "kept" else 1)


def test_2_a_wait_longer_than_any_transaction_ends_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "PENDING_S", 0.5)
    late = _open_state(rig, 1)
    assert run_stage(rig.stage, rig.settings(), _Clock()) == FAILED
    late.abort_transaction(30)


class _Clock:
    def now(self) -> int:
        return int(time.time() * 1000)


# 3. No unfenced transaction


def test_3_a_worker_of_an_older_generation_is_refused(rig: Rig) -> None:
    """Even a transaction that only writes state: its offsets carry the generation."""
    topic, group = rig.stage.input, group_of(rig.stage.name)
    first = clients.group_consumer(rig.kafka, group, "a")
    first.subscribe([topic])
    wait_until(lambda: first.poll(0.1) is None and len(first.assignment()) == 4, "assigned to the first")
    old = first.consumer_group_metadata()
    second = clients.group_consumer(rig.kafka, group, "b")
    second.subscribe([topic])

    def both() -> bool:
        first.poll(0.1)
        second.poll(0.1)
        # one that is closed with its partitions given and not yet taken waits for ever: close() calls rd_kafka_assign,
        # whose answer never comes (librdkafka 2.16)
        return bool(second.assignment()) and 0 < len(first.assignment()) < 4

    wait_until(both, "the group has a new generation")
    transactions = Transactions(clients.transactional_producer(rig.kafka, f"{rig.stage.name}.x"))
    transactions.begin_slot()

    def write(producer: Any) -> None:
        producer.produce(rig.stage.state_topic, b'{"n":9}', "c:late", 0)

    with pytest.raises((Aborted, Fatal)):
        transactions.run(write, [TopicPartition(topic, 0, 0)], old)
    assert rig.logged() == {}
    # the same without offsets would have gone through: nothing else in it knows of the group
    producer = clients.transactional_producer(rig.kafka, f"{rig.stage.name}.y")
    producer.init_transactions(30)
    producer.begin_transaction()
    write(producer)
    producer.commit_transaction(30)
    assert rig.logged() == {"late": 9}
    first.close()
    second.close()


# 4. Co-partitioning


class TwoTopics(ToyStage):
    def __init__(self, name: str):
        super().__init__(name)
        self.lanes = [[self.input, f"{name}.more"]]


@pytest.fixture
def two(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, 3, TwoTopics(f"two-{time.time_ns()}"), str(tmp_path))


def test_4_partition_p_of_every_topic_lies_with_one_worker(two: Rig) -> None:
    with two.worker("0") as a, two.worker("1") as b:
        wait_until(lambda: a.progress() and b.progress() and a.ready()[0] and b.ready()[0], "both work")
        assert set(a.progress()) | set(b.progress()) == {"0", "1", "2"}
        assert not set(a.progress()) & set(b.progress())
        for partition in (*a.progress().values(), *b.progress().values()):
            assert len(partition["lag"]) == 2


def test_4_an_assignment_that_tears_topics_apart_ends_the_worker(two: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    make = clients.group_consumer
    monkeypatch.setattr(
        clients, "group_consumer", lambda *args: make(*args, partition_assignment_strategy="roundrobin")
    )
    with two.worker("0"), two.worker("1", ready=False):
        wait_until(lambda: FAILED in two.codes, "a worker ended")


def test_4_another_list_of_topics_in_the_group_is_refused(two: Rig) -> None:
    with two.worker("0"):
        other = ToyStage(two.stage.name)
        other.lanes = [[two.stage.input]]
        assert run_stage(other, two.settings("1"), _Clock()) == REFUSED
        two.ask("a")
        two.settle()
    assert two.logged() == {"a": 1}


def test_4_to_6_wrong_topics_are_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    settings = rig.settings()
    settings.partitions = 8
    assert run_stage(rig.stage, settings, _Clock()) == REFUSED
    assert "has 4 partitions, not 8" in caplog.text
    stage = ToyStage(rig.stage.name)
    stage.lanes = [[rig.stage.input, "missing.topic"]]
    stage.state_topic = rig.stage.output
    assert run_stage(stage, rig.settings(), _Clock()) == REFUSED
    assert "missing.topic does not exist" in caplog.text and "is not compacted" in caplog.text


# 6. Stale or foreign Redis


@pytest.mark.parametrize("rule", ["kept", "broken"])
@pytest.mark.parametrize("fault", ["cluster", "topic", "beyond", "old"])
def test_6_a_view_from_elsewhere_is_rebuilt(rig: Rig, fault: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with rig.worker():
        rig.ask("a", add=1)
        rig.settle()
        p = rig.view().partition("a")
        old = rig.redis.dump(names(rig.stage.name, p).states)
        rig.ask("a")
        rig.settle()
    # the view as a stranger's would be: other states under a position that may even look right
    key = names(rig.stage.name, p).states
    rig.redis.hset(key, "c:a", b'{"n":1000}')
    match fault:
        case "cluster":
            rig.redis.hset(key, "~~cluster", "another")
        case "topic":
            rig.redis.hset(key, "~~topic", "another")
        case "beyond":
            rig.redis.hset(key, "~~pos", 999)
        case "old":
            rig.redis.restore(key, 0, old, replace=True)
            rig.redis.hset(key, mapping={"c:a": b'{"n":1000}', "~~at": 1, "c:gone": b'{"n":7}'})
            rig.redis.zadd(names(rig.stage.name, p).index, {"c:gone": 0})
    if rule == "broken":
        monkeypatch.setattr(restore.Restorer, "_useless", lambda self, pos, *_: None if pos else "empty")
    if rule == "broken" and fault == "beyond":
        return  # then it waits for a record that far on, with wrong states all the while
    with rig.worker():
        if rule == "kept":
            rig.ask("a")
            rig.settle()
            assert rig.counts() == {"a": 3}
        elif fault == "old":
            assert rig.counts()["gone"] == 7
        else:
            assert rig.counts()["a"] == 1000


def test_6_an_evicting_redis_is_refused(rig: Rig, tmp_path: Any) -> None:
    from tests.support.servers import start_redis

    (tmp_path / "redis").mkdir()
    server, where = start_redis(tmp_path / "redis")
    try:
        rig.redis_url = where.url
        import redis

        redis.Redis.from_url(where.url).config_set("maxmemory-policy", "allkeys-lru")
        assert run_stage(rig.stage, rig.settings(), _Clock()) == REFUSED
    finally:
        server.stop()


# 7. Readers


def test_7_a_missing_or_restoring_view_is_unavailable_never_not_found(rig: Rig) -> None:
    view = rig.view()
    with pytest.raises(Unavailable, match="missing"):
        view.get("a", "c:a")
    with rig.worker():
        rig.ask("a")
        rig.settle()
        assert view.get("a", "c:a").n == 1 and view.get("a", "c:nobody") is None
    p = view.partition("a")
    rig.redis.hset(names(rig.stage.name, p).states, "~~pos", "r:3:abc")
    for call in (lambda: view.get("a", "c:a"), lambda: view.scan("c:", p), view.next_due):
        with pytest.raises(Unavailable, match="being restored"):
            call()


# 8. Slots


def test_8_a_slot_is_held_by_one_process_of_a_machine(rig: Rig) -> None:
    with rig.worker("0"):
        assert run_stage(rig.stage, rig.settings("0"), _Clock()) == REFUSED


def test_8_a_second_worker_of_a_slot_fences_the_first(rig: Rig, tmp_path: Any) -> None:
    with rig.worker("0"):
        rig.ask("a")
        rig.settle()
        rig.data_dir = str(tmp_path / "another-machine")
        with rig.worker("0", ready=False) as second:
            for _ in range(50):
                rig.ask("a")
                rig.producer.poll(0.01)
            wait_until(lambda: FAILED in rig.codes, "the first has ended")
            rig.wait_ready(second)
            rig.settle()
            rig.check_exact({"a": 51})
