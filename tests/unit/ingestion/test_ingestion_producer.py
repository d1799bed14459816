"""The Kafka sink's promises, over a producer whose broker is a list, and the STOP marks without Redis."""

import asyncio
import threading

import pytest

from rondo_common.problems import Problem
from rondo_common.records import Inbound
from services.ingestion import producer as module
from services.ingestion.callbacks.marks import RedisMarks, mark_of
from services.ingestion.model import Message
from services.ingestion.openapi import openapi_paths
from services.ingestion.producer import KafkaSink


class FakeProducer:
    """librdkafka's producer as far as the sink uses it; acknowledgements come in `poll` when allowed."""

    def __init__(self):
        self.waiting, self.kept = [], []
        self.answering = threading.Event()
        self.answering.set()
        self.error = None
        self.full_after = None
        self.peak = 0

    def produce(self, topic, value, key, on_delivery, timestamp, headers):
        if self.full_after is not None and len(self.waiting) >= self.full_after:
            raise BufferError("queue full")
        self.waiting.append((value, on_delivery))
        self.peak = max(self.peak, len(self.waiting))

    def poll(self, timeout):
        if not self.answering.is_set():
            return 0
        batch, self.waiting = self.waiting, []
        for value, done in batch:
            if self.error is None:
                self.kept.append(value)
            done(self.error, None)
        return len(batch)

    def list_topics(self, topic, timeout):
        raise RuntimeError("no broker")


@pytest.fixture
async def made():
    fake = FakeProducer()

    def make(**limits):
        sink = KafkaSink("x", "y", make=lambda *a, **k: fake, **limits)
        tasks.append(asyncio.create_task(sink.run()))
        return sink

    tasks = []
    yield fake, make
    fake.answering.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def messages(count, size=10):
    return [Message("t", b"k", b"x" * size, []) for _ in range(count)]


async def test_a_write_returns_after_every_acknowledgement(made):
    fake, make = made
    sink = make()
    fake.answering.clear()
    writes = [asyncio.create_task(sink.write(messages(n), 1)) for n in (1, 100, 7)]
    await asyncio.sleep(0.05)
    assert not any(w.done() for w in writes)
    fake.answering.set()
    await asyncio.wait_for(asyncio.gather(*writes), 5)
    assert len(fake.kept) == 108
    assert sink.ready() == (True, "")


async def test_an_error_of_one_record_fails_its_request(made):
    fake, make = made
    sink = make()
    fake.error = "timed out"
    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(sink.write(messages(3), 1), 5)
    assert caught.value.status == 503
    assert int(caught.value.headers["Retry-After"]) >= 1
    fake.error = None
    await asyncio.wait_for(sink.write(messages(1), 1), 5)


@pytest.mark.parametrize("limits", [{"max_records": 50}, {"max_bytes": 30_000}])
async def test_what_is_under_way_is_bounded(made, limits):
    fake, make = made
    sink = make(**limits)
    fake.answering.clear()
    writes = [asyncio.create_task(sink.write(messages(10), 1)) for _ in range(100)]
    await asyncio.sleep(0.05)
    refused = [w for w in writes if w.done()]
    assert len(refused) == 95  # five of ten records fit under either limit
    assert all(w.exception().status == 503 for w in refused)
    assert fake.peak == 50
    assert sink.ready()[0] is False
    fake.answering.set()
    await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 5)
    assert len(fake.kept) == 50
    await asyncio.wait_for(sink.write(messages(10), 1), 5)


async def test_one_request_beyond_the_bound_passes_when_nothing_else_is_under_way(made):
    _, make = made
    await asyncio.wait_for(make(max_records=5).write(messages(100), 1), 5)


async def test_a_stalled_broker_is_told_at_once(made, monkeypatch):
    fake, make = made
    sink = make()
    monkeypatch.setattr(module, "STALL_S", 0.05)
    fake.answering.clear()
    first = asyncio.create_task(sink.write(messages(1), 1))
    await asyncio.sleep(0.1)
    with pytest.raises(Problem):
        await sink.write(messages(1), 1)
    assert not first.done()
    fake.answering.set()
    await asyncio.wait_for(first, 5)
    await asyncio.wait_for(sink.write(messages(1), 1), 5)


async def test_a_full_client_queue_fails_the_request_and_counts_right(made):
    fake, make = made
    sink = make()
    fake.answering.clear()
    fake.full_after = 4
    write = asyncio.create_task(sink.write(messages(10), 1))
    await asyncio.sleep(0.02)
    fake.answering.set()
    with pytest.raises(Problem):
        await asyncio.wait_for(write, 5)
    fake.full_after = None
    await asyncio.wait_for(sink.write(messages(10), 1), 5)
    assert len(fake.kept) == 14
    assert sink._records == sink._bytes == 0


async def test_the_end_waits_for_what_is_under_way(made):
    fake, make = made
    sink = make()
    fake.answering.clear()
    write = asyncio.create_task(sink.write(messages(5), 1))
    await asyncio.sleep(0)
    closing = asyncio.create_task(sink.close())
    await asyncio.sleep(0.03)
    assert not closing.done() and not write.done()
    fake.answering.set()
    await asyncio.wait_for(asyncio.gather(write, closing), 5)
    assert len(fake.kept) == 5


async def test_a_fatal_error_ends_the_process(made):
    _, make = made
    sink = make()

    class Fatal:
        def fatal(self):
            return True

        def __str__(self):
            return "fenced"

    sink._on_error(Fatal())
    with pytest.raises(RuntimeError, match="fenced"):
        await asyncio.wait_for(sink.run(), 5)
    with pytest.raises(Problem):
        await sink.write(messages(1), 1)


async def test_without_a_broker_it_is_not_ready(made):
    _, make = made
    assert make().ready() == (False, "Kafka does not answer")


async def test_stop_marks_do_without_redis(free_port):
    marks = RedisMarks(f"redis://127.0.0.1:{free_port()}/0")
    stop = Inbound("demo", "i", "sms", "twilio", "phone", "a1", "STOP", "2026-01-01T00:00:00Z", keyword="stop")
    await asyncio.wait_for(marks.follow(stop), 3)
    await asyncio.wait_for(marks.follow(stop), 0.1)  # and does not try again at once
    await marks.aclose()


@pytest.mark.integration
async def test_stop_marks_in_redis(redis_url):
    import redis.asyncio

    marks = RedisMarks(redis_url)
    stop = Inbound("demo", "i", "sms", "twilio", "phone", "a1", "STOP", "2026-01-01T00:00:00Z", keyword="stop")
    name = mark_of("demo", "sms", "a1")
    assert name == "stop:demo:sms:a1"
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await marks.follow(stop)
        assert 3500 < await client.ttl(name) <= 3600
        stop.keyword = "start"
        await marks.follow(stop)
        assert await client.get(name) is None
    await marks.aclose()


def test_the_openapi_part_names_every_path():
    paths = openapi_paths()
    assert {f"/v1/{c}" for c in ("identify", "track", "page", "screen", "group", "alias", "batch", "import")} <= set(
        paths
    )
    assert "/v1/imports/{id}" in paths
    operations = [o["operationId"] for p in paths.values() for o in p.values()]
    assert len(operations) == len(set(operations))
