"""Records that change nothing need no transaction; a state that can't be read is a lost view, not poison."""

import time
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from rondo_common import kafka as clients
from rondo_common.partition import partition_of
from rondo_common.streams import batch
from rondo_common.streams.commit import produce
from tests.support.stream_rig import Rig, wait_until
from tests.support.toy_stage import ToyStage

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, stage=ToyStage(f"passing-{time.time_ns()}"), data_dir=str(tmp_path))


def _ends(rig: Rig) -> int:
    """Records of the state topic, commit markers too."""
    admin = clients.admin(rig.kafka)
    places = [(rig.stage.state_topic, p) for p in range(rig.partitions)]
    return sum(clients.end_offsets(admin, places).values())


def _skip(rig: Rig, count: int) -> None:
    for i in range(count):
        rig.ask(f"k{i % 20}", "skip")


def test_records_that_change_nothing_are_passed_over_without_a_transaction(rig: Rig) -> None:
    with rig.worker():
        _skip(rig, 400)
        rig.settle()
        assert _ends(rig) == 0, "something was written"
        rig.ask("k1")
        rig.settle()
    # another worker reads on behind them
    with rig.worker():
        _skip(rig, 40)
        rig.ask("k1")
        rig.settle()
    rig.check_exact({"k1": 2})


def test_the_states_say_now_and_then_how_far_it_has_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restore would read any number of them again."""
    monkeypatch.setattr(batch, "MOST_PASSED", 50)
    with rig.worker():
        for _ in range(10):
            _skip(rig, 60)
            rig.settle()
    offsets = [m for m in rig.read(rig.stage.state_topic) if m.key() == b"~o"]
    assert {m.partition() for m in offsets} == {partition_of(f"k{i}", rig.partitions) for i in range(20)}


def test_a_flush_brings_nothing_back_that_was_passed_over(rig: Rig) -> None:
    with rig.worker() as runner:
        rig.ask("k1")
        _skip(rig, 100)
        rig.settle()
        rig.flush_redis()
        wait_until(lambda: runner.ready()[0] and rig.counts() == {"k1": 1}, "restored")
        rig.ask("k1")
        rig.settle()
        # its states say what was passed over before the flush as well
        reached = clients.reader(rig.kafka, f"test-{rig.stage.name}")
        ends = {p: reached.get_watermark_offsets(TopicPartition(rig.stage.input, p), 10)[1] for p in range(4)}
        reached.close()
        said = {m.partition(): m.value() for m in rig.read(rig.stage.state_topic) if m.key() == b"~o"}
        place = partition_of("k1", rig.partitions)
        assert said[place] == b'{"%s":%d}' % (rig.stage.input.encode(), ends[place])
    rig.check_exact({"k1": 2})


def _names(rig: Rig, key: str) -> str:
    return f"{{{rig.stage.name}:{partition_of(key, rig.partitions)}}}:s"


@pytest.mark.parametrize("state", ["c:k1", "g:flag:x", "~o"])
def test_rubbish_in_redis_is_a_lost_view(rig: Rig, state: str) -> None:
    """The log has the right state: the view is made anew from it, and nothing is dead-lettered."""
    with rig.worker():
        rig.ask("k1", "flag x")
        rig.settle()
        rig.redis.hset(_names(rig, "k1"), state, "rubbish")
        if state != "c:k1":  # these are read when the partition is restored
            rig.redis.hset(_names(rig, "k1"), "~~pos", "0")
        for _ in range(3):
            rig.ask("k1")
        rig.settle()
    rig.check_exact({"k1": 4})
    assert not rig.read(f"{rig.stage.input}.dlq")


def test_rubbish_in_the_log_is_poison_for_its_own_records_only(rig: Rig) -> None:
    place = partition_of("k1", rig.partitions)
    other = next(f"o{i}" for i in range(100) if partition_of(f"o{i}", rig.partitions) == place)
    produce(rig.producer, topic=rig.stage.state_topic, key="c:k1", value=b"rubbish", partition=place)
    rig.flush()
    with rig.worker():
        rig.ask("k1")
        rig.ask(other)
        rig.settle()
    assert [m.key() for m in rig.read(f"{rig.stage.input}.dlq")] == [b"k1"]
    assert rig.steps() == {other: [1]}
