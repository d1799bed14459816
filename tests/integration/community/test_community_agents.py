"""The agents on a real broker: inbound message to conversation, answer, closing, dead letters, a crash."""

import asyncio
import time
import uuid

import msgspec
import pytest

from rondo_common import ids
from rondo_common import kafka as clients
from rondo_common import topics as catalogue
from rondo_common.clock import Clock
from rondo_common.records import Command, CommunityEvent, Inbound
from rondo_common.settings import Settings
from services.community.agents import Agents
from services.community.grpc_server import Community, pb
from services.community.store import Conversations
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration


class Running:
    def __init__(self, bootstrap, lookup):
        self.settings = Settings(kafka=bootstrap, service="community")
        self.store = Conversations(self.settings)
        self.agents = Agents(self.settings, Clock(), self.store, lookup)
        self.api = Community(self.store, self.agents, Clock())

    async def start(self):
        self.reading = asyncio.create_task(asyncio.to_thread(self.store.run))
        await self.agents.app.start()

    async def stop(self):
        await self.agents.app.stop()
        self.store.stop()
        await self.reading


def produce(bootstrap, topic, rows):
    producer = clients.producer(bootstrap, "test")
    for key, value in rows:
        producer.produce(topic, key=key, value=value if isinstance(value, bytes) else msgspec.json.encode(value))
    assert producer.flush(20) == 0


def read_all(bootstrap, topic, type_, wanted):
    consumer = clients.reader(bootstrap, f"test-{uuid.uuid4().hex}")
    ends = clients.assign_from_start(consumer, topic)
    done, out = set(), []
    while len(done) < len(ends):
        m = consumer.poll(5.0)
        if m is not None and m.error():
            done.add(m.partition())
        elif m is not None:
            r = msgspec.json.decode(m.value(), type=type_) if type_ else dict(m.headers())
            if wanted(r):
                out.append(r)
    consumer.close()
    return out


async def until(ask, seconds=40):
    deadline = time.monotonic() + PATIENT * seconds
    while time.monotonic() < deadline:
        if found := ask():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("did not happen")


async def test_a_message_becomes_a_conversation_is_answered_and_closed(kafka, topics):
    topics.catalogue(catalogue.INBOUND, catalogue.COMMUNITY, catalogue.COMMUNITY_WORK, catalogue.COMMANDS,
                     catalogue.dlq(catalogue.INBOUND), catalogue.dlq(catalogue.COMMUNITY_WORK))  # fmt: skip
    w = f"w{uuid.uuid4().hex[:8]}"
    failures = [2]

    async def lookup(workspace, inbound):
        if failures[0]:
            failures[0] -= 1
            raise ConnectionError("profiles is away")
        return "m1" if inbound.address_id == "a1" else None

    def inbound(n, address="a1", text="when does it open?", keyword=None):
        return Inbound(
            w, f"in-{w}-{n}", "sms", "twilio", "phone", address, text, "2026-01-01T10:00:00Z", keyword=keyword
        )

    key = ids.member_key(w, "a1")
    # before the group exists: a young group must lose none of these
    produce(
        kafka,
        catalogue.INBOUND,
        [
            (key, inbound(1)),
            (key, inbound(2, "nobody")),
            (key, b"not json"),
            (key, inbound(3, keyword="stop", text="STOP")),
        ],
    )
    running = Running(kafka, lookup)
    await running.start()
    try:
        (c,) = await until(lambda: running.store.list(w))
        await until(lambda: len(running.store.list(w)[0].messages) == 1)
        produce(kafka, catalogue.INBOUND, [(key, inbound(1)), (key, inbound(4, text="hello?"))])
        await until(lambda: len(running.store.list(w)[0].messages) == 2)
        answer = await running.api.Reply(
            pb.ReplyRequest(workspace=w, id=c.id, text="At nine.", actor="k1", request_id="r1"), None
        )
        again = await running.api.Reply(
            pb.ReplyRequest(workspace=w, id=c.id, text="At nine.", actor="k1", request_id="r1"), None
        )
        assert answer.touch_id == again.touch_id
        await until(lambda: len(running.store.list(w)[0].messages) == 3)
        closed = await running.api.Close(pb.CloseRequest(workspace=w, id=c.id, actor="k1"), None)
        assert msgspec.json.decode(closed.conversation_json)["status"] == "closed"
        commands = read_all(kafka, catalogue.COMMANDS, Command, lambda r: r.workspace == w)
        assert {(r.kind, r.channel, r.touch_id) for r in commands} == {("send", "sms", answer.touch_id)}
        events = read_all(kafka, catalogue.COMMUNITY, CommunityEvent, lambda r: r.workspace == w)
        assert [e.kind.partition(".")[2] for e in events] == ["opened", "message", "message", "message", "closed"]
        assert [e.sequence for e in events] == [1, 2, 3, 4, 5]
        dead = read_all(kafka, catalogue.dlq(catalogue.INBOUND), None, lambda h: h["rondo-dlq-stage"] == b"community")
        assert [h["rondo-dlq-reason"] for h in dead] == [b"unreadable"]
    finally:
        await running.stop()
    # a new process folds the same conversations from the log
    later = Running(kafka, lookup)
    await later.start()
    try:
        (c,) = await until(lambda: later.store.list(w))
        assert (c.status, len(c.messages), c.first_response_s is not None) == ("closed", 3, True)
    finally:
        await later.stop()
