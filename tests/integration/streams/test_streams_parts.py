"""STREAMS 10 to 15, lanes, dead letters, sweeps and the effector, on real servers."""

import time
from collections import Counter
from typing import Any

import msgspec
import pytest

from rondo_common import kafka as clients
from rondo_common import telemetry
from rondo_common.streams import loop as loop_module
from rondo_common.streams.codec import Codec
from rondo_common.streams.idle import Idle
from rondo_common.streams.inputs import Inputs
from rondo_common.streams.runtime import FAILED
from rondo_common.streams.store import Applied, Change, Store, names
from tests.support.stage_driver import ManualClock
from tests.support.stream_rig import Rig, wait_until
from tests.support.toy_stage import Ask, Count, ToyStage

pytestmark = pytest.mark.integration
T = 1_800_000_000_000


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, data_dir=str(tmp_path))


def metric(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


# 10. One overlay a batch, dead letters take back


def test_10_poison_goes_to_the_dead_letter_topic_and_hurts_nobody(rig: Rig) -> None:
    expected: Counter[str] = Counter()
    for i in range(200):
        key = f"k{i % 5}"
        match i % 20:
            case 7:
                rig.put(key, b"{not json", headers=[("ce_id", b"poison")])
            case 8:
                rig.ask(key, "raise", add=1000)
            case 9:
                rig.ask(key, "unencodable", add=1000)
            case _:
                rig.ask(key)
                expected[key] += 1
    with rig.worker():
        rig.settle()
        rig.check_exact(dict(expected))
    dead = [dict(m.headers()) | {"value": m.value()} for m in rig.read(f"{rig.stage.input}.dlq")]
    assert Counter(d["rondo-dlq-reason"] for d in dead) == {b"unreadable": 10, b"handler_error": 20}
    assert {d["ce_id"] for d in dead if d["value"] == b"{not json"} == {b"poison"}


def test_10_a_flood_of_poison_halts_the_worker_and_loses_nothing(rig: Rig) -> None:
    for i in range(1000):
        rig.put(f"k{i}", b"{not json")
    rig.flush()
    with rig.worker(ready=False):
        wait_until(lambda: rig.codes, "the worker has halted")
    assert rig.codes == [FAILED]
    dead = len(rig.read(f"{rig.stage.input}.dlq"))
    assert dead < 500 and sum(rig.lag().values()) >= 1000 - dead


def test_10_without_a_dead_letter_topic_the_offset_does_not_move(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    make = clients.transactional_producer
    monkeypatch.setattr(clients, "transactional_producer", lambda *args: make(*args, message_timeout_ms=1_000))
    monkeypatch.setattr(loop_module, "MOST_ABORTS", 2)
    dead = f"{rig.stage.input}.dlq"
    admin = clients.admin(rig.kafka)
    admin.delete_topics([dead])[dead].result()
    rig.put("a", b"{not json")
    rig.flush()
    with rig.worker(ready=False):
        wait_until(lambda: rig.codes, "the worker has ended")
    assert rig.codes == [FAILED] and sum(rig.lag().values()) == 1


# 11. Time


def test_11_timers_fire_once_by_the_clock_and_survive_everything(rig: Rig) -> None:
    clock = ManualClock(T)
    with rig.worker(clock=clock):
        for i in range(20):
            rig.ask(f"k{i}", "timer", at=T + 1000 + i, time=T, add=1)
        rig.settle()
        assert rig.view().next_due() == T + 1000
    rig.flush_redis()
    with rig.worker(clock=clock):
        assert rig.view().next_due() == T + 1000
        clock.at = T + 1009
        wait_until(lambda: sum(rig.counts().values()) == 30, "ten have fired")
        rig.flush_redis()
        clock.at = T + 5000
        wait_until(lambda: sum(rig.counts().values()) == 40, "all have fired")
        assert rig.view().next_due() is None
        rig.check_exact({f"k{i}": 2 for i in range(20)})
    fired = [c.now - T for c in rig.outputs() if c.why == "timer t"]
    assert sorted(fired) == list(range(1000, 1020))


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_11_a_backlog_older_than_a_timer_is_handled_before_it(
    rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was away when records came in; back again, the clock is long past the timer."""
    if rule == "broken":
        monkeypatch.setattr(Inputs, "horizon", lambda self, p, now: None)
    clock = ManualClock(T)
    with rig.worker(clock=clock):
        rig.ask("a", "timer", at=T + 1000, time=T)
        rig.settle()
    rig.ask("b", time=T + 10, partition=rig.view().partition("a"))
    rig.ask("a", "cancel", time=T + 20)
    rig.flush()
    clock.at = T + 9000
    with rig.worker(clock=clock):
        rig.settle()
    fired = [c.why for c in rig.outputs() if c.why.startswith("timer ")]
    assert fired == ([] if rule == "kept" else ["timer t"])


def test_11_the_sorted_set_changes_with_the_position(rig: Rig) -> None:
    clock = ManualClock(T)
    with rig.worker(clock=clock):
        for i in range(50):
            rig.ask(f"k{i % 7}", ("timer x", "timer y", "cancel x")[i % 3], at=T + 1000 + i, time=T)
        rig.settle()
        for p in range(rig.partitions):
            at = names(rig.stage.name, p)
            scores = {k.decode(): int(s) for k, s in rig.redis.zrange(at.timers, 0, -1, withscores=True)}
            states = rig.redis.hgetall(at.states)
            timers = {k[3:].decode(): msgspec.json.decode(v) for k, v in states.items() if k.startswith(b"~t:")}
            assert scores == {owner: min(due for due, _ in t.values()) for owner, t in timers.items()}


# 13. State size


def test_13_big_states_are_counted(rig: Rig) -> None:
    class Big(ToyStage):
        def _count(self, key: str, add: int, *_: Any) -> Any:
            from rondo_common.outcomes import Save

            yield Save(f"c:{key}", Count(add, ("x" * 20_000,)))

    rig.stage.__class__ = Big
    with rig.worker():
        rig.ask("a")
        rig.settle()
    assert metric("rondo_stream_state_over_16k_total", stage=rig.stage.name, kind="c") == 1


# 14. Batching


def test_14_under_load_there_is_at_most_one_transaction_in_25_ms(rig: Rig) -> None:
    with rig.worker():
        labels = {"stage": rig.stage.name, "outcome": "committed"}
        begin, before = time.monotonic(), metric("rondo_stream_transactions_total", **labels)
        for i in range(300):
            rig.ask(f"k{i % 10}")
            rig.producer.poll(0)
            time.sleep(0.003)
        rig.settle()
        seconds = time.monotonic() - begin
        made = metric("rondo_stream_transactions_total", **labels) - before
    assert 1 <= made <= seconds / 0.025 + 2
    assert sum(rig.logged().values()) == 300


def test_14_the_settings_that_keep_transactions_short(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(clients, "Producer", lambda config, **_: seen.append(config))
    monkeypatch.setattr(clients, "Consumer", lambda config, **_: seen.append(config))
    clients.transactional_producer("x:1", "s.0")
    clients.group_consumer("x:1", "rondo.s", "s.0")
    producer, consumer = seen
    assert producer["retry.backoff.ms"] == 5 and producer["retry.backoff.max.ms"] == 20
    assert producer["partitioner"] == "murmur2_random" and producer["acks"] == "all"
    assert producer["transactional.id"] == consumer["group.instance.id"] == "s.0"
    assert producer["transaction.timeout.ms"] == 10_000
    assert consumer["session.timeout.ms"] == 6_000 and consumer["heartbeat.interval.ms"] == 500
    assert consumer["partition.assignment.strategy"] == "range" and consumer["isolation.level"] == "read_committed"


# 15. Lag


@pytest.mark.parametrize("rule", ["kept", "broken"])
def test_15_commit_markers_are_no_lag(rig: Rig, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rule == "broken":
        monkeypatch.setattr(Idle, "commit", lambda self, inputs, live: None)
    producer = clients.transactional_producer(rig.kafka, f"{rig.stage.name}.feeder")
    producer.init_transactions(30)
    producer.begin_transaction()
    for i in range(20):
        producer.produce(rig.stage.input, msgspec.json.encode(Ask(f"k{i}")), f"k{i}")
    producer.commit_transaction(30)
    with rig.worker() as runner:
        wait_until(lambda: sum(rig.counts().values()) == 20, "all are counted")
        if rule == "kept":
            rig.settle()
        wait_until(lambda: not any(lag for p in runner.progress().values() for lag in p["lag"].values()), "own lag 0")
    assert sum(rig.lag().values()) == (0 if rule == "kept" else 4)


# lanes, waiting, sweeps


class Laned(ToyStage):
    def __init__(self, name: str):
        super().__init__(name)
        self.first = f"{name}.first"
        self.lanes = [[self.first], [self.input]]
        self.lane_limit = {1: 500}


@pytest.fixture
def laned(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, stage=Laned(f"laned-{time.time_ns()}"), data_dir=str(tmp_path))


def test_lanes_a_backlog_of_the_higher_lane_is_done_first(laned: Rig) -> None:
    for i in range(3000):
        laned.ask(f"k{i % 20}", "low")
    for i in range(3000):
        laned.ask(f"k{i % 20}", "high", topic=laned.stage.first)
    laned.flush()
    with laned.worker():
        laned.settle()
    by_partition: dict[int, list[str]] = {}
    for m in laned.read(laned.stage.output):
        by_partition.setdefault(m.partition(), []).append(msgspec.json.decode(m.value())["why"])
    for whys in by_partition.values():
        assert whys == sorted(whys), "low before high"


def test_waiting_holds_one_topic_until_the_definition_is_here(laned: Rig) -> None:
    p = 0
    with laned.worker() as runner:
        laned.ask("a", "need v1", partition=p)
        laned.ask("a", partition=p)
        laned.ask("b", partition=1)
        laned.flush()
        wait_until(lambda: laned.counts() == {"b": 1}, "the other partition goes on")
        wait_until(lambda: runner.progress()["0"]["lag"][laned.stage.input] == 2, "it waits")
        laned.ask("z", "flag v1", topic=laned.stage.first, partition=p)
        laned.settle()
        assert laned.counts() == {"a": 2, "b": 1, "z": 1}
    assert [c.why for c in laned.outputs() if c.key == "a"] == ["need", "record"]


def test_a_sweep_meets_every_key_once_over_flush_and_restart(rig: Rig) -> None:
    for i in range(400):
        rig.ask(f"k{i:03d}", partition=0)
    with rig.worker():
        rig.settle()
        rig.ask("k000", "sweep", partition=0)
        rig.flush()
        wait_until(lambda: sum(rig.counts().values()) > 3000, "it is under way")
        rig.flush_redis()
        wait_until(lambda: sum(rig.counts().values()) > 10_000, "it goes on")
    with rig.worker():
        wait_until(lambda: any(c.why == "sweep end" for c in rig.outputs()), "it has ended")
        rig.settle()
        assert rig.counts() == {f"k{i:03d}": 101 + (i == 0) for i in range(400)}
    assert Counter(c.why for c in rig.outputs()) == {"record": 400, "sweep": 401, "sweep end": 1}


def test_globals_are_back_after_a_restore(rig: Rig) -> None:
    with rig.worker():
        rig.ask("a", "flag v1", partition=0)
        rig.settle()
        rig.flush_redis()
        rig.ask("a", "need v1", partition=0)
        rig.settle()
    with rig.worker():
        rig.ask("a", "flags", partition=0)
        rig.settle()
    assert [c.key for c in rig.outputs() if c.why == "list"] == ["g:flag:v1"]


def test_assigned_comes_once_an_assignment_and_before_anything_else(rig: Rig) -> None:
    rig.stage.announce = True
    rig.ask("a", partition=0)
    with rig.worker():
        rig.settle()
        rig.flush_redis()
        rig.ask("a", partition=0)
        rig.settle()
    with rig.worker():
        rig.settle()
    whys = [msgspec.json.decode(m.value())["why"] for m in rig.read(rig.stage.output)]
    assert whys.count("assigned") == 8 and whys[0] == "assigned"


# The view


def test_a_change_of_thousands_of_states_is_one_step(rig: Rig) -> None:
    """More than one call inside the script can take: all of them are there, in order, with their timers."""
    codec = Codec(rig.stage.types)
    store = Store(rig.redis, rig.stage.name, codec)
    keys = [f"c:{n:05d}" for n in range(4_500)]
    for partition in (0, 1):
        store.wipe(partition, "r:0:x", "cluster", "topic")
    change = Change("r:0:x", "4500", dict.fromkeys(keys, b'{"n":1}'), keys, {"a": 5, "b": 3})
    stale = change._replace(expected="r:0:y")
    assert store.apply({0: change, 1: stale}) == {0: Applied(2, 3), 1: None}
    assert store.range(0, 4500, "c:", "", 10_000) == keys
    assert set(store.read({0: keys}, {0: 4500})[0].values()) == {b'{"n":1}'}
    gone = dict.fromkeys(keys[:2_500])
    assert store.apply({0: Change("4500", "4501", gone, (), {"b": None})}) == {0: Applied(1, 5)}
    assert store.range(0, 4501, "c:", "", 10_000) == keys[2_500:]
