"""An agent's body never raises (rule 2): it tries again, gives up into the dead letters and waits for them,
and when even those can't be written the process ends with the event unacknowledged."""

import asyncio
from types import SimpleNamespace

import pytest

from rondo_common import topics
from rondo_common.clock import Clock
from rondo_common.problems import Problem
from rondo_common.settings import Settings
from services.community import agents as module
from services.community.agents import TRIES, Agents


class Ended(BaseException):
    """os._exit was called."""


class Producer:
    """Takes dead letters, slowly; or does not."""

    def __init__(self, broken=False):
        self.sent, self.broken = [], broken

    async def send_and_wait(self, topic, key, value, partition, at, headers):
        await asyncio.sleep(0.01)
        if self.broken:
            raise ConnectionError("no broker")
        self.sent.append((topic, key, value, partition, headers["rondo-dlq-reason"]))


@pytest.fixture
async def agents(monkeypatch):
    async def now(_):
        pass

    def end(code):
        raise Ended(code)

    made = Agents(Settings(service="community"), Clock(), None, None)
    monkeypatch.setattr(module.asyncio, "sleep", now)
    monkeypatch.setattr(module.os, "_exit", end)
    return made


EVENT = SimpleNamespace(
    value=b"{}", message=SimpleNamespace(topic=topics.INBOUND, key=b"k", value=b"{}", partition=3, offset=17)
)


def with_producer(agents, monkeypatch, **how):
    producer = Producer(**how)
    monkeypatch.setattr(type(agents.app), "producer", producer)
    return producer


def failing(error, times):
    """Work that fails so often."""
    calls = []

    async def work(value):
        calls.append(value)
        if len(calls) <= times:
            raise error

    return work, calls


@pytest.mark.parametrize("error", [ConnectionError("away"), Problem(503, "unavailable", "away"), RuntimeError("bug")])
async def test_what_may_pass_is_tried_again(agents, monkeypatch, error):
    producer = with_producer(agents, monkeypatch)
    work, calls = failing(error, TRIES - 1)
    await agents._safely(EVENT, work)
    assert len(calls) == TRIES
    assert producer.sent == []


@pytest.mark.parametrize(
    ("error", "tries", "reason"),
    [(RuntimeError("bug"), TRIES, b"handler_error"), (Problem(422, "invalid", "no"), 1, b"handler_error"),
     (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), 1, b"unreadable")],
)  # fmt: skip
async def test_what_does_not_pass_is_in_the_dead_letters_before_it_counts_as_done(agents, monkeypatch, error, tries, reason):  # fmt: skip
    producer = with_producer(agents, monkeypatch)
    work, calls = failing(error, 1000)
    await agents._safely(EVENT, work)
    assert len(calls) == tries
    assert producer.sent == [(topics.dlq(topics.INBOUND), b"k", b"{}", 3, reason)]


async def test_without_dead_letters_the_process_ends(agents, monkeypatch):
    with_producer(agents, monkeypatch, broken=True)
    work, _ = failing(RuntimeError("bug"), 1000)
    with pytest.raises(Ended):
        await agents._safely(EVENT, work)
