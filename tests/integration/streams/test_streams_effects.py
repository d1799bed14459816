"""The effector and ownership: tasks are begun by the owner, after the commit, and answered once."""

import itertools
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from rondo_common import kafka as clients
from rondo_common import telemetry
from rondo_common.outcomes import Perform
from rondo_common.streams.effector import AsyncEffector, Claim
from tests.support.stage_driver import ManualClock
from tests.support.stream_rig import Rig, wait_until

pytestmark = pytest.mark.integration
T = 1_800_000_000_000


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path: Any) -> Rig:
    return Rig(kafka, redis_url, data_dir=str(tmp_path))


# the effector


def discarded(rig: Rig) -> float:
    return telemetry.REGISTRY.get_sample_value("rondo_stream_answers_discarded_total", {"stage": rig.stage.name}) or 0.0


class Calls(AsyncEffector):
    """Answers 5; notes what the log held when the call began."""

    def __init__(self, rig: Rig):
        super().__init__(limit=50)
        self._rig = rig
        self.seen: list[tuple[str, bool]] = []
        self.most = 0

    async def perform(self, perform: Perform, claim: Claim) -> Any:
        self.most = max(self.most, self.in_flight())
        self.seen.append((perform.id, claim.valid()))
        return 5


def test_tasks_are_performed_after_the_commit_and_answered_once(rig: Rig) -> None:
    calls = Calls(rig)
    with rig.worker(effector=calls):
        for i in range(300):
            rig.ask(f"k{i}", f"perform {i}")
        rig.settle()
        wait_until(lambda: sum(rig.counts().values()) == 300 * 6, "all are answered")
    assert sorted(id for id, _ in calls.seen) == sorted(f"k{i}/{i}" for i in range(300))
    assert all(valid for _, valid in calls.seen) and calls.most <= 50


def test_28_while_a_call_runs_ownership_is_proved_again(rig: Rig) -> None:
    ages: list[float] = []

    class Slow(AsyncEffector):
        async def perform(self, perform: Perform, claim: Claim) -> Any:
            import asyncio

            for _ in range(40):
                await asyncio.sleep(0.1)
                ages.append(claim.age())
            return 1

    with rig.worker(effector=Slow()):
        rig.ask("a", "perform x")
        rig.settle()
        wait_until(lambda: rig.counts().get("a") == 2, "answered")
    assert any(later < earlier for earlier, later in itertools.pairwise(ages))


def test_answers_for_a_partition_that_was_given_away_are_discarded(rig: Rig) -> None:
    import asyncio

    held: list[tuple[Claim, Perform]] = []

    class Never(AsyncEffector):
        async def perform(self, perform: Perform, claim: Claim) -> Any:
            held.append((claim, perform))
            await asyncio.sleep(60)

    effector = Never()
    with rig.worker(effector=effector) as runner:
        rig.ask("a", "perform x")
        rig.settle()
        wait_until(lambda: held, "the call is on its way")
        claim, perform = held[0]
        runner._loop.ownership.assign(list(range(rig.partitions)))  # as after a rebalance
        assert not claim.valid()
        effector._answers(claim, perform.id, 5)
        rig.ask("a")
        rig.settle()
        wait_until(lambda: discarded(rig) == 1, "discarded")
        assert rig.counts() == {"a": 2}


def test_records_of_a_revoked_assignment_are_dropped(rig: Rig) -> None:
    """A poll that brings a rebalance may bring records of the assignment before it (STREAMS 3)."""
    for i in range(500):
        rig.ask(f"k{i % 5}")
    rig.flush()
    with rig.worker("0") as a:
        for slot in ("1", "2", "3"):
            with rig.worker(slot) as b:
                for i in range(200):
                    rig.ask(f"k{i % 5}")
                wait_until(lambda b=b: b.progress(), "the second has a share")
                rig.wait_ready(a, b)
        rig.settle(60)
        rig.check_exact({f"k{i}": 220 for i in range(5)})


def test_the_next_offset_comes_from_processed_records(rig: Rig) -> None:
    """A transaction without records carries the committed offset, not a reading position (STREAMS 3)."""
    clock = ManualClock(T)
    with rig.worker(clock=clock):
        rig.ask("a", "timer", at=T + 1000, time=T)
        rig.settle()
    with rig.worker(clock=clock):
        clock.at = T + 2000
        wait_until(lambda: rig.counts() == {"a": 2}, "the timer has fired in a transaction of its own")
    consumer = clients.reader(rig.kafka, f"rondo.{rig.stage.name}")
    (tp,) = consumer.committed([TopicPartition(rig.stage.input, rig.view().partition("a"))], 10)
    consumer.close()
    assert tp.offset == 1
