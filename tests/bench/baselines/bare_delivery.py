"""The least a personal mail can cost in Python: what the promises ask of a delivery worker, and nothing else.

    python -m tests.bench.baselines.bare_delivery BOOTSTRAP REDIS_URL SMTP SENDS STATES OUTCOMES COUNT CONNECTIONS
    -> {"messages": 50000, "seconds": 6.1, "cpu_s": 5.2, "cpu": {"read": 8.8, ...}}   the last in µs a mail

For 1,000 sends at a time, in one thread: read and decode the records, fetch and decode the members' states, fill a
prebuilt mail, write ahead in a transaction, set the marks in Redis, push the mails as in `smtp_raw`, write the final
states and the outcomes in a second transaction that moves the offsets. The same client library and settings, records of
the same shape and headers as the worker's.

It is no worker: no gate (consent, window, stop), no look for a repeat, no rebalance, restore, timer, retry, breaker or
pace, no answer but 250, no template language, no tracing, no metrics, and after a kill nobody could tell what was sent.
"""

import asyncio
import hmac
import json
import socket
import sys
import time
from collections.abc import Sequence
from html import escape
from itertools import pairwise

import msgspec
import redis
import uvloop
from confluent_kafka import Message, TopicPartition

from rondo_common import kafka as clients
from rondo_common.records import Delivery, Send, SendState
from tests.bench.baselines.smtp_raw import Mail, Pump, connected

BATCH = 1_000
_HEAD = (
    "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n"
    "From: Shop <hi@shop.example>\r\nDate: Sun, 01 Nov 2026 00:00:00 GMT\r\n"
)
_FILL = "New records came in this week, and we thought of you. " * 45


class Member(msgspec.Struct):
    """What a mail needs of a member."""

    address: str
    name: str
    city: str
    plan: str


class Bare:
    """The loop; see the module."""

    def __init__(self, bootstrap: str, url: str, topics: Sequence[str]):
        name = f"bare.{time.time_ns()}"
        self._sends, self._states, self._outcomes = topics
        self._consumer = clients.group_consumer(bootstrap, name, name, auto_offset_reset="earliest")
        self._producer = clients.transactional_producer(bootstrap, name)
        self._producer.init_transactions(30)
        self._redis = redis.Redis.from_url(url)
        pool = self._redis.connection_pool.connection_kwargs
        self._marks = socket.create_connection((pool["host"], pool["port"]))
        if pool.get("password"):
            raise ValueError("a Redis without a password is needed")
        self._decode = msgspec.json.Decoder(Send).decode
        self._member = msgspec.json.Decoder(Member).decode
        self._encode = msgspec.json.Encoder().encode
        self.cpu: dict[str, float] = {}

    def members(self, count: int) -> None:
        """Write the members' states, and assign the topic's partitions."""
        pipe = self._redis.pipeline(transaction=False)
        for n in range(count):
            state = Member(f"m{n}@example.com", f"name{n}", ("Paris", "Rome", "São Paulo")[n % 3], "gold")
            pipe.set(f"bare:{n}", self._encode(state))
            if n % 5_000 == 4_999:
                pipe.execute()
        pipe.execute()
        found = self._consumer.list_topics(self._sends, timeout=20).topics[self._sends].partitions
        self._consumer.assign([TopicPartition(self._sends, p, 0) for p in found])

    async def run(self, pumps: Sequence[Pump], count: int) -> None:
        done = 0
        while done < count:
            messages = [m for m in self._consumer.consume(BATCH, 0.1) if m.error() is None]
            if not messages:
                continue
            self._lap("read", first=True)
            sends = [self._decode(m.value()) for m in messages]
            self._lap("read")
            raw = self._redis.mget([f"bare:{(done + n) % count}" for n in range(len(sends))])
            members = [self._member(found) for found in raw]
            self._lap("members")
            mails = [self._mail(send, member) for send, member in zip(sends, members, strict=True)]
            self._lap("fill")
            ahead = [SendState("submitting", msgspec.Raw(m.value()), 1, calls=1, gen=1) for m in messages]
            self._write(messages, ahead, None)
            self._lap("write ahead")
            self._mark(sends)
            self._lap("mark")
            edges = [len(mails) * n // len(pumps) for n in range(len(pumps) + 1)]
            await asyncio.gather(*(p.push(mails[a:b]) for p, (a, b) in zip(pumps, pairwise(edges), strict=True)))
            self._lap("push")
            final = [SendState("accepted", msgspec.Raw(b"{}"), 1, calls=1, provider="smtp") for _ in messages]
            self._write(messages, final, [self._outcome(send) for send in sends])
            self._lap("outcomes")
            done += len(messages)

    def _lap(self, what: str, first: bool = False) -> None:
        """CPU since the last lap, Kafka's own threads included."""
        now = time.process_time()
        if first and not self.cpu:
            self._last = now
        self.cpu[what] = self.cpu.get(what, 0.0) + now - self._last
        self._last = now

    def _mail(self, send: Send, member: Member) -> Mail:
        token = hmac.digest(b"bench", f"{send.touch_id}:{member.address}".encode(), "sha256").hex()
        text = (
            f"{_HEAD}To: {member.address}\r\nSubject: {member.name}, spring is here\r\n"
            f"Message-ID: <{send.touch_id}@example.com>\r\n\r\n<h1>Hi {escape(member.name)}</h1>\r\n<p>{_FILL}</p>\r\n"
            f"<p>{'As a gold member you go first.' if member.plan == 'gold' else ''} Our shop in "
            f"{escape(member.city)} is open.</p>\r\n<a href='https://x.example/u/{token}'>Unsubscribe</a>\r\n.\r\n"
        )
        envelope = f"MAIL FROM:<hi@shop.example>\r\nRCPT TO:<{member.address}>\r\nDATA\r\n"
        return envelope.encode("ascii"), text.encode()

    def _mark(self, sends: Sequence[Send]) -> None:
        line = b"*4\r\n$6\r\nHSETNX\r\n$10\r\nbare:marks\r\n$36\r\n%s\r\n$1\r\n1\r\n"
        self._marks.sendall(b"".join([line % send.touch_id.encode() for send in sends]))
        answers = 0
        while answers < len(sends):
            answers += self._marks.recv(65_536).count(b"\n")

    def _outcome(self, send: Send) -> bytes:
        return self._encode(
            Delivery(
                send.workspace, send.decision_id, send.touch_id, send.member_id, "email", "smtp", "accepted",
                "2026-11-01T00:00:00.000Z", campaign=send.campaign, run_id=send.run_id, version=send.version,
                lane=send.lane, topic=send.topic, class_=send.class_, provider_id=f"<{send.touch_id}@example.com>",
            )
        )  # fmt: skip

    def _write(
        self, messages: Sequence[Message], states: Sequence[SendState], outcomes: Sequence[bytes] | None
    ) -> None:
        """One transaction: the states; with the outcomes also the offsets."""
        producer, encode = self._producer, self._encode
        producer.begin_transaction()
        for n, m in enumerate(messages):
            producer.produce(self._states, encode(states[n]), m.key(), partition=m.partition())
            if outcomes is not None:
                producer.produce(self._outcomes, outcomes[n], m.key(), partition=m.partition(), headers=m.headers())
        if outcomes is not None:
            ends = {m.partition(): m.offset() + 1 for m in messages}
            places = [TopicPartition(self._sends, p, end) for p, end in ends.items()]
            producer.send_offsets_to_transaction(places, self._consumer.consumer_group_metadata())
        producer.commit_transaction()


async def measure(bare: Bare, smtp: str, count: int, connections: int) -> dict[str, object]:
    """Send all; what it took from the first record on."""
    bare.members(count)
    pumps = await connected(smtp, connections)
    began, cpu = time.perf_counter(), time.process_time()
    await bare.run(pumps, count)
    return {
        "messages": count,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "cpu": {what: seconds / count * 1e6 for what, seconds in bare.cpu.items()},
    }


if __name__ == "__main__":
    bootstrap, url, smtp, *topics, count, connections = sys.argv[1:]
    print(json.dumps(uvloop.run(measure(Bare(bootstrap, url, topics), smtp, int(count), int(connections)))))
