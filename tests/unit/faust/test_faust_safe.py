"""The fences around Faust, rule by rule: what stock Faust does to an offset, and what ours does.

Each test shows the stock consumer's fault first, so that a release of Faust that heals it shows too.
"""

import asyncio

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from rondo_common.faust_safe import SafeConsumer, SafeTransport, make_app

TOPIC = TP("t", 0)


class Message:
    """What a consumer needs of a message."""

    def __init__(self, offset, tracked=True, generation=1):
        self.topic, self.partition = TOPIC
        self.tp, self.offset, self.tracked, self.generation_id, self.acked = TOPIC, offset, tracked, generation, False


@pytest.fixture
async def make():
    """A consumer of a class, on an app whose generation is 1, without a broker."""
    app = make_app("test-faust-safe", "127.0.0.1:1", 8, asyncio.get_running_loop())
    app.consumer_generation_id = 1
    app.topics.acks_enabled_for = lambda topic: True

    async def nothing(*_):
        pass

    def build(kind):
        consumer = kind(app.transport, callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing)
        consumer._committed_offset[TOPIC] = None
        return consumer

    return build


def acknowledged(consumer, *offsets):
    consumer._acked[TOPIC] = list(offsets)
    consumer._acked_index[TOPIC] = set(offsets)
    return consumer


async def test_the_app_uses_the_safe_transport_and_no_web_server(make):
    consumer = make(SafeConsumer)
    app = consumer.app
    assert isinstance(app.transport, SafeTransport)
    assert app.transport.Consumer is SafeConsumer
    assert app.conf.web_enabled is False
    assert app.conf.processing_guarantee.value == "at_least_once"


@pytest.mark.parametrize(("tracked", "generation"), [(False, 1), (True, 0)])
async def test_a_a_skipped_or_stale_event_is_not_acknowledged(make, tracked, generation):
    stock, safe = make(driver.Consumer), make(SafeConsumer)
    for consumer in (stock, safe):
        consumer._acked[TOPIC], consumer._acked_index[TOPIC] = [], set()
    stock.ack(Message(5, tracked, generation))
    assert stock._acked[TOPIC] == [5], "stock acknowledges it"
    assert safe.ack(Message(5, tracked, generation)) is False
    assert safe._acked[TOPIC] == []
    safe.ack(Message(6, True, 1))
    assert safe._acked[TOPIC] == [6]


async def test_b_nothing_is_committed_past_an_event_in_flight(make):
    # offset 0 was handed out and is still being worked on; 1 and 2 are done
    stock = acknowledged(make(driver.Consumer), 1, 2)
    safe = acknowledged(make(SafeConsumer), 1, 2)
    safe._first[TOPIC] = 0
    assert stock._new_offset(TOPIC) == 3, "stock commits past the event in flight"
    assert safe._new_offset(TOPIC) is None
    # the same with a committed offset: 5 in flight, 6 and 7 done
    stock = acknowledged(make(driver.Consumer), 6, 7)
    safe = acknowledged(make(SafeConsumer), 6, 7)
    stock._committed_offset[TOPIC] = safe._committed_offset[TOPIC] = 5
    assert stock._new_offset(TOPIC) == 8
    assert safe._new_offset(TOPIC) is None
    safe._acked[TOPIC].append(5)
    assert safe._new_offset(TOPIC) == 8
    assert safe._acked[TOPIC] == []


async def test_b_only_the_contiguous_run_is_committed(make):
    safe = acknowledged(make(SafeConsumer), 3, 4, 6, 7)
    safe._committed_offset[TOPIC] = 3
    assert safe._new_offset(TOPIC) == 5
    assert safe._acked[TOPIC] == [6, 7]


async def test_c_a_jump_in_offsets_is_no_acknowledgement(make):
    stock, safe = make(driver.Consumer), make(SafeConsumer)
    for consumer in (stock, safe):
        consumer._committed_offset[TOPIC] = 0
        await consumer._add_gap(TOPIC, 1, 4)
    assert stock._gap[TOPIC]
    assert not safe._gap[TOPIC]


async def test_d_acknowledgements_of_an_earlier_assignment_are_forgotten(make):
    safe = acknowledged(make(SafeConsumer), 4, 5)
    safe._first[TOPIC] = 4
    await safe.on_partitions_assigned({TOPIC}, 2)
    assert safe._acked[TOPIC] == []
    assert safe._acked_index[TOPIC] == set()
    assert TOPIC not in safe._first
    stock = acknowledged(make(driver.Consumer), 4, 5)
    await stock.on_partitions_assigned({TOPIC}, 2)
    assert stock._acked[TOPIC] == [4, 5]


async def test_e_a_partition_without_a_committed_offset_begins_at_its_start(make, monkeypatch):
    async def nothing(self):
        pass

    monkeypatch.setattr(driver.Consumer, "perform_seek", nothing)
    safe = make(SafeConsumer)
    other = TP("t", 1)
    safe._committed_offset[other] = 7
    sought = []

    async def seek(tp, offset):
        sought.append((tp, offset))

    monkeypatch.setattr(safe, "assignment", lambda: {TOPIC, other})
    monkeypatch.setattr(safe, "seek", seek)
    monkeypatch.setattr(safe, "_is_changelog_tp", lambda tp: False)
    await safe.perform_seek()
    assert sought == [(TOPIC, 0)]


def without(rule):
    """The safe consumer with one rule taken out: there the stock consumer's own method stands."""
    return type(f"Without_{rule}", (SafeConsumer,), {rule: getattr(driver.Consumer, rule)})


async def committed_after(consumer, done, at=5):
    """What is committed when 5 to 9 were handed out under generation 1 and `done` (offset, tracked,
    generation) came back, in order. The committed offset was `at`."""
    consumer._committed_offset[TOPIC] = at
    consumer._acked[TOPIC], consumer._acked_index[TOPIC] = [], set()
    for offset, tracked, generation in done:
        consumer.ack(Message(offset, tracked, generation))
    return consumer._new_offset(TOPIC)


async def test_without_a_skipped_events_are_committed(make):
    skipped = [(5, False, 1), (6, True, 0)]  # never handed out, and of an earlier generation
    assert await committed_after(make(SafeConsumer), skipped) is None
    assert await committed_after(make(without("ack")), skipped) == 7, "5 and 6 are lost"


async def test_without_b_the_event_in_flight_is_committed(make):
    done = [(6, True, 1), (7, True, 1)]  # 5 is being worked on
    assert await committed_after(make(SafeConsumer), done) is None
    assert await committed_after(make(without("_new_offset")), done) == 8, "5 is lost when the worker dies now"


async def test_without_c_a_gap_is_committed(make):
    """Reading jumps from 5 to 9 (a rebalance threw the prefetched 6 to 8 away); 5 is done, then 9. With the
    gap noted, the stock rule commits past it; without one it stops before it."""
    lost = {}
    for kind in (SafeConsumer, without("_add_gap")):
        consumer = make(kind)
        consumer._new_offset = driver.Consumer._new_offset.__get__(consumer)
        await consumer._add_gap(TOPIC, 6, 9)
        lost[kind] = await committed_after(consumer, [(5, True, 1), (9, True, 1)])
    assert lost[SafeConsumer] == 6
    assert lost[kind] == 10, "6 to 8 are lost"


async def test_without_d_what_an_earlier_owner_did_is_committed_again(make):
    """7 and 8 were done under an assignment that was lost before 6 was; now the partition is back at 6."""
    kept = {}
    for kind in (SafeConsumer, without("on_partitions_assigned")):
        consumer = make(kind)
        consumer._committed_offset[TOPIC] = 6
        consumer._acked[TOPIC], consumer._acked_index[TOPIC] = [7, 8], {7, 8}
        await consumer.on_partitions_assigned({TOPIC}, 2)
        consumer.app.consumer_generation_id = 1
        consumer._committed_offset[TOPIC] = 6
        consumer.ack(Message(6))
        kept[kind] = consumer._new_offset(TOPIC)
    assert kept[SafeConsumer] == 7, "7 and 8 are read and done again before they count"
    assert kept[kind] == 9, "7 and 8 count although this owner never worked on them"


async def test_without_e_a_young_partition_goes_on_where_it_was_read_to(make, monkeypatch):
    async def nothing_committed(self):
        return {TOPIC: None}

    sought = {}
    for kind in (SafeConsumer, without("perform_seek")):
        consumer = make(kind)
        places = sought[kind] = []

        async def seek(tp, offset, places=places):
            places.append((tp, offset))

        monkeypatch.setattr(kind, "seek_to_committed", nothing_committed, raising=False)
        monkeypatch.setattr(consumer, "assignment", lambda: {TOPIC})
        monkeypatch.setattr(consumer, "seek", seek)
        monkeypatch.setattr(consumer, "_is_changelog_tp", lambda tp: False)
        await consumer.perform_seek()
    assert sought[SafeConsumer] == [(TOPIC, 0)]
    assert sought[kind] == [], "the position stays where prefetching had come to: what lies before is lost"


async def test_the_settings_of_the_fence(make):
    """Rule 4: no web server or tables in the open, quick takeover, bytes in and out, no exactly_once."""
    conf = make(SafeConsumer).app.conf
    assert (conf.web_enabled, conf.web_tables_enabled) == (False, False)
    assert conf.broker_session_timeout <= 10
    assert conf.broker_heartbeat_interval <= conf.broker_session_timeout / 3
    assert (conf.key_serializer, conf.value_serializer) == ("raw", "raw")
    assert conf.processing_guarantee.value == "at_least_once"
    assert conf.topic_allow_declare is False
