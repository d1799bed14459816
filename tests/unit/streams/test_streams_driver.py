"""The decisions of the loop, in memory: what each outcome does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.outcomes import Save
from tests.support.stage_driver import StageDriver
from tests.support.toy_stage import Ask, Count, ToyStage

T = 1_000_000


def ask(driver: StageDriver, key: str, do: str = "", **more) -> None:
    time = more.pop("time", None)
    driver.feed("toy.in", key, Ask(key, do=do, **more), time=time)


@pytest.fixture
def driver() -> StageDriver:
    return StageDriver(ToyStage(), clock=T, strict=False)


def counts(driver: StageDriver) -> dict[str, int]:
    return {k[2:]: v.n for k, v in driver.states().items() if k.startswith("c:")}


def test_counts_and_emits(driver: StageDriver) -> None:
    for _ in range(3):
        ask(driver, "a")
    ask(driver, "b", add=5)
    assert counts(driver) == {"a": 3, "b": 5}
    assert [e.value.n for e in driver.emitted("toy.out")] == [1, 2, 3, 5]
    first = driver.emitted()[0]
    assert first.type == "toy.counted" and first.headers["ce_source"] == "/rondo/toy" and first.headers["depth"] == "1"
    assert len({e.id for e in driver.emitted()}) == 4


def test_a_timer_fires_once_at_its_due_time(driver: StageDriver) -> None:
    ask(driver, "a", "timer", at=T + 1000, add=10)
    assert driver.timers("a") == {"a": {"t": T + 1000}}
    driver.advance(T + 999)
    assert counts(driver) == {"a": 10}
    driver.advance(T + 5000)
    driver.advance(T + 9000)
    assert counts(driver) == {"a": 20}
    assert driver.emitted()[-1].value.now == T + 1000
    assert driver.timers() == {}


def test_a_cancelled_timer_never_fires(driver: StageDriver) -> None:
    ask(driver, "a", "timer", at=T + 1000)
    ask(driver, "a", "cancel")
    driver.advance(T + 5000)
    assert counts(driver) == {"a": 2}


def test_timers_fire_in_order_of_due_over_all_owners(driver: StageDriver) -> None:
    same = [k for k in (f"k{i}" for i in range(100)) if driver.feed("toy.in", k, Ask(k)).partition == 0][:3]
    for key, due in zip(same, (T + 30, T + 10, T + 20), strict=True):
        driver.feed("toy.in", key, Ask(key, do="timer every100", at=due))
    driver.take()
    driver.advance(T + 220)
    fired = [(e.value.now, e.key) for e in driver.emitted()]
    assert fired == sorted(fired) and len(fired) == 8


def test_rule_11_due_timers_fire_before_the_record(driver: StageDriver) -> None:
    ask(driver, "a", "timer late", at=T + 20)
    ask(driver, "a", "timer early", at=T + 10)
    ask(driver, "a", "timer after", at=T + 40)
    ask(driver, "a", time=T + 30)
    state = driver.state("c:a")
    assert [w for w in state.log if w != "timer"] == ["timer early", "timer late", "record"]


def test_dead_letters_take_back_everything_of_their_input(driver: StageDriver) -> None:
    ask(driver, "a")
    for do in ("dead", "raise", "unencodable"):
        ask(driver, "a", do)
    driver.feed("toy.in", "a", b"{not json")
    assert counts(driver) == {"a": 1} and len(driver.emitted()) == 1
    reasons = [d.reason for d in driver.dead]
    assert reasons == ["asked", "handler_error", "handler_error", "unreadable"]


def test_wait_holds_the_topic_and_partition_until_it_can_go_on(driver: StageDriver) -> None:
    ask(driver, "a", "need x")
    ask(driver, "a")
    assert counts(driver) == {} and len(driver.waiting()) == 2
    stage_partition = driver.waiting()[0].partition
    driver.feed("toy.other", "z", Ask("z", do="flag x"), partition=stage_partition)
    assert counts(driver) == {"a": 2, "z": 1}


def test_globals_are_seen_by_every_input(driver: StageDriver) -> None:
    driver.feed("toy.in", "a", Ask("a", do="flag y"), partition=0)
    driver.feed("toy.in", "a", Ask("a", do="flag x"), partition=0)
    driver.feed("toy.in", "b", Ask("b", do="flags"), partition=0)
    driver.feed("toy.in", "a", Ask("a", do="unflag x"), partition=0)
    driver.feed("toy.in", "b", Ask("b", do="flags"), partition=0)
    assert [e.value.key for e in driver.emitted() if e.value.why == "list"] == ["g:flag:x,g:flag:y", "g:flag:y"]


def test_a_sweep_meets_every_key_once(driver: StageDriver) -> None:
    for i in range(10):
        driver.feed("toy.in", f"k{i}", Ask(f"k{i}"), partition=0)
    driver.feed("toy.in", "k0", Ask("k0", do="sweep"), partition=0)
    assert counts(driver) == {"k0": 102, **{f"k{i}": 101 for i in range(1, 10)}}
    assert [e.value.why for e in driver.emitted()].count("sweep end") == 1


def test_a_sweep_survives_and_can_be_stopped() -> None:
    driver = StageDriver(ToyStage(), clock=T, auto=False)
    for i in range(10):
        driver.feed("toy.in", f"k{i}", Ask(f"k{i}"), partition=0)
    driver.feed("toy.in", "k0", Ask("k0", do="sweep"), partition=0)
    driver._turn(driver._partitions[0])
    driver.feed("toy.in", "k1", Ask("k1", do="stop"), partition=0)
    driver.settle()
    met = [k for k, n in counts(driver).items() if n >= 100]
    assert sorted(met) == ["k0", "k1", "k2"]
    assert not [e for e in driver.emitted() if e.value.why == "sweep end"]


def test_a_task_and_its_answer(driver: StageDriver) -> None:
    ask(driver, "a", "perform call")
    assert [p.id for p in driver.performed] == ["a/call"]
    driver.answer("a/call", 7)
    assert counts(driver) == {"a": 8}


def test_states_must_be_named_and_have_the_listed_type() -> None:
    class Wrong(ToyStage):
        def handle(self, item, message, states, now):
            if item.key == "unnamed":
                states.get("c:other")
            else:
                yield Save("c:x", Ask("a"))

    driver = StageDriver(Wrong(), clock=T, strict=False, assign=False)
    ask(driver, "unnamed")
    ask(driver, "type")
    assert "was not named by touches" in driver.dead[0].detail and "is to be a Count" in driver.dead[1].detail


def test_circles_end_as_dead_letters(driver: StageDriver) -> None:
    ask(driver, "a", "loop")
    for _ in range(20):
        fed = [e for e in driver.take("toy.in")]
        driver.feed_emitted(fed)
    assert counts(driver) == {"a": 17}
    assert [d.reason for d in driver.dead] == ["loop"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 60)), max_size=20))
def test_timers_and_records_come_in_order_of_time(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is set: for each owner what happened lies in order of its `now`."""
    driver = StageDriver(ToyStage(log=0), clock=T, auto=False)
    now = T
    for key, gap, ahead in steps:
        now += gap
        driver.feed("toy.in", key, Ask(key, do=f"timer {ahead}", at=now + ahead), time=now)
    driver.clock.at = now + 100
    driver.settle()
    for owner in "abc":
        times = [e.value.now for e in driver.emitted() if e.key == owner]
        assert times == sorted(times)
    assert driver.timers() == {}
    assert all(isinstance(v, Count) for v in driver.states().values())
