"""Claims and effectors."""

import threading
import time
from typing import Any

import pytest

from rondo_common.outcomes import Perform
from rondo_common.streams.effector import AsyncEffector, Claim, Failed, Ownership, ThreadEffector
from tests.support.stream_rig import wait_until


@pytest.fixture
def ownership() -> Ownership:
    made = Ownership()
    made.assign([0, 1])
    made.proved(time.monotonic())
    return made


def test_a_claim_ends_with_its_assignment_even_if_the_partition_comes_back(ownership: Ownership) -> None:
    claim = Claim(ownership, 1, ownership.epoch(1))
    assert claim.valid()
    ownership.assign([1])
    assert not claim.still_owner()
    assert Claim(ownership, 1, ownership.epoch(1)).still_owner()


def test_a_claim_without_a_young_proof_is_not_valid(ownership: Ownership) -> None:
    claim = Claim(ownership, 0, ownership.epoch(0))
    ownership.proved(time.monotonic() - 3.5)
    assert claim.still_owner() and not claim.valid()
    ownership.clear()
    assert not claim.still_owner()


class Echo(AsyncEffector):
    async def opened(self) -> None:
        self.hold = threading.Event()

    async def perform(self, perform: Perform, claim: Claim) -> Any:
        if perform.task == "raise":
            raise RuntimeError("told to")
        return None if perform.task == "quiet" else f"did {perform.task}"


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_answers_come_back_and_capacity_is_freed(kind: str, ownership: Ownership) -> None:
    def call(perform: Perform, claim: Claim) -> Any:
        if perform.task == "raise":
            raise RuntimeError("told to")
        return None if perform.task == "quiet" else f"did {perform.task}"

    effector = Echo(limit=10) if kind == "async" else ThreadEffector(call, limit=10)
    got: dict[str, Any] = {}
    effector.start(lambda claim, id, answer: got.__setitem__(id, answer))
    try:
        claim = Claim(ownership, 0, ownership.epoch(0))
        effector.submit(claim, [Perform(t, t) for t in ("a", "b", "raise", "quiet")])
        wait_until(lambda: effector.in_flight() == 0, "all are done")
        assert got == {"a": "did a", "b": "did b", "raise": Failed("RuntimeError: told to")}
        assert effector.capacity() == 10
        ownership.clear()
        effector.submit(claim, [Perform("late", "late")])
        wait_until(lambda: effector.in_flight() == 0, "given up")
        assert "late" not in got
    finally:
        effector.stop()
