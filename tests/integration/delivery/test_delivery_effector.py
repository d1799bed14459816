"""From a committed write-ahead to an answer: what is asked right before a call, and what the marks tell."""

import queue
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from rondo_common.outcomes import Perform
from rondo_common.streams.effector import Claim, Ownership
from services.delivery.channels.smtp import Smtp
from services.delivery.effector import Courier
from services.delivery.marks import stop_key
from services.delivery.model import Answer, Begin, Call, Check, Forget, Message, Stop, Verdict
from services.delivery.settings import DeliverySettings
from tests.support.providers import SmtpServer
from tests.support.slowness import PATIENT

PARTITION = 3


class Office:
    """A courier with its partition, as the loop would hold it."""

    def __init__(self, url: str, redis_url: str, patient: bool = False, **settings: Any):
        own = DeliverySettings(timeout=1.5, connect_timeout=0.5, **settings)

        def provider() -> Smtp:
            return Smtp(url, "rondo.test", "x@example.com", 0.5, own.timeout)

        self.courier = Courier("email", provider, redis_url, own, patient)
        self.answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.ownership = Ownership()
        self.courier.start(lambda claim, id, answer: self.answers.put((id, answer)))
        self.claim = self.own()

    def own(self) -> Claim:
        self.ownership.assign([PARTITION])
        self.ownership.proved(time.monotonic())
        epoch = self.ownership.epoch(PARTITION)
        assert epoch is not None
        self.claim = Claim(self.ownership, PARTITION, epoch)
        return self.claim

    def do(self, *tasks: Any) -> None:
        self.ownership.proved(time.monotonic())
        performs = [Perform(t.id if isinstance(t, Call) else uuid.uuid4().hex, t) for t in tasks]
        self.courier.submit(self.claim, performs)

    def begin(self, gen: int = 1, **stops: str) -> None:
        self.do(Begin(gen, {("demo", campaign): state for campaign, state in stops.items()}))

    def answer(self, timeout: float = 10.0) -> tuple[str, Any]:
        return self.answers.get(timeout=timeout)

    def verdict(self) -> Verdict:
        verdict: Verdict = self.answer()[1].verdict
        return verdict


def call(touch: str, to: str = "ann@example.com", gen: int = 1, class_: str = "marketing", **more: Any) -> Call:
    base = {"workspace": "demo", "campaign": "spring", "lane": "bulk", "address_id": "a1"}
    message = Message(to=to, text="Hi", subject="Hi", sender="hi@example.com")
    return Call(id=f"{touch}:1", touch_id=touch, gen=gen, class_=class_, message=message, **{**base, **more})


@pytest.fixture
def client(redis_flushed: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_flushed) as c:
        yield c


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as s:
        yield s


Hire = Callable[..., Office]


@pytest.fixture
def hire(redis_url: str, client: redis.Redis) -> Iterator[Hire]:
    """Makes offices, stopped at the end."""
    made: list[Office] = []

    def give(url: str, **settings: Any) -> Office:
        office = Office(url, redis_url, **settings)
        made.append(office)
        return office

    yield give
    for office in made:
        office.courier.stop()


def marks(client: redis.Redis, gen: int = 1) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = client.hgetall(f"{{delivery-email:{PARTITION}}}:m:{gen}")
    return found


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + PATIENT * seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_a_call_its_mark_and_its_end(server: SmtpServer, hire: Hire, client: redis.Redis) -> None:
    o = hire(server.url)
    o.begin()
    o.do(call("t1"))
    id, answer = o.answer()
    assert (id, answer.verdict, answer.address_id) == ("t1:1", Verdict.ACCEPTED, "a1")
    until(lambda: b"accepted" in marks(client).get(b"t1:1", b""))
    o.do(Forget("t1:1", 1))
    until(lambda: marks(client) == {b"": b"1"})
    assert o.courier.in_flight() == 0 and server.touches() == {"t1": 1}


def test_stops_are_asked_right_before_the_call(server: SmtpServer, hire: Hire) -> None:
    o = hire(server.url)
    o.begin(spring="paused")
    o.do(call("t1"))
    assert o.answer()[1].reason == "stopped"
    o.do(Stop("demo", "spring", None), call("t2"))
    assert o.verdict() == Verdict.ACCEPTED
    o.do(Stop("demo", "*", "paused"), call("t3"), call("t4", class_="transactional"))
    got = dict(o.answer() for _ in range(2))
    assert got["t3:1"].reason == "stopped" and got["t4:1"].verdict == Verdict.ACCEPTED
    assert server.touches() == {"t2": 1, "t4": 1}


def test_a_stop_that_comes_while_calls_wait_in_line(hire: Hire) -> None:
    with SmtpServer(latency=0.3) as server:
        o = hire(server.url, concurrency=1, most=1)
        o.begin()
        o.do(*(call(f"t{i}") for i in range(20)))
        until(lambda: len(server.mails) > 0)
        o.do(Stop("demo", "spring", "paused"))
        verdicts = [o.verdict() for _ in range(20)]
        assert verdicts.count(Verdict.ACCEPTED) == len(server.mails) < 5
        assert verdicts.count(Verdict.NOT_SENT) == 20 - len(server.mails)


def test_a_member_s_stop_mark_blocks_marketing_only(server: SmtpServer, hire: Hire, client: redis.Redis) -> None:
    client.set(stop_key("demo", "email", "a1"), "1")
    o = hire(server.url)
    o.begin()
    o.do(call("t1"), call("t2", class_="transactional"), call("t3", address_id="other"))
    got = dict(o.answer() for _ in range(3))
    assert {k: a.verdict for k, a in got.items()} == {
        "t1:1": Verdict.BLOCKED,
        "t2:1": Verdict.ACCEPTED,
        "t3:1": Verdict.ACCEPTED,
    }


def test_an_old_proof_of_ownership_starts_no_call(server: SmtpServer, hire: Hire) -> None:
    o = hire(server.url)
    o.begin()
    o.ownership.proved(time.monotonic() - 60)
    o.courier.submit(o.claim, [Perform("t1:1", call("t1"))])
    assert o.answer()[1].reason == "ownership_too_old" and server.mails == []


def test_a_lost_partition_starts_no_call(server: SmtpServer, hire: Hire) -> None:
    o = hire(server.url)
    o.begin()
    old = o.claim
    o.own()
    o.courier.submit(old, [Perform("t1:1", call("t1"))])
    until(lambda: o.courier.in_flight() == 0)
    o.do(call("t2"))
    until(lambda: bool(server.mails))
    assert server.touches() == {"t2": 1}


def test_emptied_redis_gets_its_marks_back(hire: Hire, client: redis.Redis) -> None:
    """After the next call a successor learns the same as if nothing had been lost."""
    with SmtpServer(slow_s=60.0) as server:
        o = hire(server.url)
        o.begin()
        o.do(call("done"), call("open", "a+slow@example.com"))
        assert o.answer()[0] == "done:1"
        until(lambda: marks(client).get(b"open:1") == b"a")
        client.flushall()
        o.do(call("next"))
        assert o.answer()[0] == "next:1" and server.touches()["next"] == 1
        new = hire(server.url)
        new.begin(2)
        wanted = {
            "done": Verdict.ACCEPTED,
            "next": Verdict.ACCEPTED,
            "open": Verdict.UNKNOWN,
            "never": Verdict.NOT_SENT,
        }
        for name, verdict in wanted.items():
            new.do(Check(f"{name}:1", 1))
            assert new.verdict() == verdict, name


def test_a_call_of_a_former_generation_does_not_begin_without_marks(
    server: SmtpServer, hire: Hire, client: redis.Redis
) -> None:
    o = hire(server.url)
    o.begin(1)
    o.begin(2)
    until(lambda: bool(marks(client, 2)))
    client.flushall()
    o.do(call("t1", gen=1))
    assert o.answer()[1].reason == "marks_unavailable" and server.mails == []


def test_what_a_successor_learns(server: SmtpServer, hire: Hire, client: redis.Redis) -> None:
    o = hire(server.url)
    o.begin()
    o.do(call("done"), call("open", "a+timeout@example.com"))
    got = dict(o.answer() for _ in range(2))
    assert got["done:1"].verdict == Verdict.ACCEPTED
    client.hset(f"{{delivery-email:{PARTITION}}}:m:1", "open:1", "a")  # as if it had died waiting
    new = hire(server.url)
    new.begin(2)
    for name, verdict in (("done", Verdict.ACCEPTED), ("open", Verdict.UNKNOWN), ("never", Verdict.NOT_SENT)):
        new.do(Check(f"{name}:1", 1))
        assert new.verdict() == verdict, name
    client.flushall()
    new.do(Check("never2:1", 1))
    assert new.answer()[1] == Answer(Verdict.UNKNOWN, reason="worker_lost")
    new.begin(3)
    new.do(Check("never2:1", 2))
    assert new.answer()[1] == Answer(Verdict.UNKNOWN, reason="worker_lost")


def test_a_generation_that_ended_before_it_began_made_no_call(
    server: SmtpServer, hire: Hire, client: redis.Redis
) -> None:
    o = hire(server.url)
    o.begin(1)
    until(lambda: bool(marks(client, 1)))
    new = hire(server.url)
    new.begin(3)
    new.do(Check("t1:1", 2))
    assert new.verdict() == Verdict.NOT_SENT


def test_a_zombie_can_t_begin_what_its_successor_took_back(server: SmtpServer, hire: Hire, client: redis.Redis) -> None:
    zombie, new = hire(server.url), hire(server.url)
    zombie.begin(1)
    until(lambda: bool(marks(client, 1)))
    new.begin(2)
    new.do(Check("t1:1", 1))
    assert new.verdict() == Verdict.NOT_SENT
    zombie.do(call("t1", gen=1))
    until(lambda: zombie.courier.in_flight() == 0)
    assert zombie.answers.empty() and server.mails == []


def test_a_partition_that_came_back_waits_for_its_own_calls(hire: Hire) -> None:
    with SmtpServer(latency=0.5) as server:
        o = hire(server.url)
        o.begin()
        o.do(call("t1"))
        until(lambda: len(server.mails) == 1)
        o.own()
        o.begin(2)
        o.do(Check("t1:1", 1))
        got = [o.answer()[1].verdict for _ in range(2)]
        assert got == [Verdict.ACCEPTED, Verdict.ACCEPTED]


def test_no_more_marks_are_open_than_there_are_places(hire: Hire, client: redis.Redis) -> None:
    """A kill at any moment finds at most one call a place of which nobody knows whether it left (STREAMS 28)."""
    with SmtpServer(latency=0.005) as server:
        o = hire(server.url, concurrency=4, most=4)
        o.begin()
        o.do(*(call(f"t{i}") for i in range(200)))
        most = 0
        while o.answers.qsize() < 200:
            open_ = sum(mark == b"a" for mark in marks(client).values())
            most = max(most, open_)
            assert open_ <= 4
        assert 0 < most <= 4 and set(server.touches().values()) == {1} and len(server.touches()) == 200
        until(lambda: sum(b"accepted" in v for v in marks(client).values()) == 200)


def test_slow_addresses_stop_nobody(hire: Hire) -> None:
    with SmtpServer(slow_s=1.0) as server:
        o = hire(server.url, concurrency=2, most=8, slow_after=0.05)
        o.begin()
        o.do(*(call(f"s{i}", "a+slow@example.com") for i in range(4)), *(call(f"t{i}") for i in range(4)))
        order = [o.answer()[0] for _ in range(8)]
        assert {id[0] for id in order[:4]} == {"t"}, order


def test_what_was_to_follow_a_slow_call_goes_elsewhere(hire: Hire) -> None:
    with SmtpServer(slow_s=1.5) as server:
        o = hire(server.url, concurrency=1, most=4, slow_after=0.1)
        o.begin()
        # on the warm connection the envelope of the second call is ahead when the first turns out to be slow
        o.do(call("warm"), call("slow", "a+slow@example.com"), *(call(f"t{i}") for i in range(3)))
        order = [o.answer()[0] for _ in range(5)]
        assert order[-1] == "slow:1" and server.touches() == dict.fromkeys(("warm", "slow", "t0", "t1", "t2"), 1)


def test_transactional_goes_first(hire: Hire) -> None:
    with SmtpServer(latency=0.05) as server:
        o = hire(server.url, concurrency=1, most=1)
        o.begin()
        o.do(*(call(f"b{i}") for i in range(6)), call("tx", lane="transactional"))
        order = [o.answer()[0] for _ in range(7)]
        assert order.index("tx:1") <= 2, order


def test_the_breaker_opens_without_a_server_and_closes_with_one(hire: Hire, free_port: Callable[[], int]) -> None:
    port = free_port()
    o = hire(f"smtp://127.0.0.1:{port}", breaker_after=2, breaker_pause=1.2, concurrency=2, most=2)
    o.begin()
    o.do(*(call(f"t{i}") for i in range(6)))
    answers = [o.answer()[1] for _ in range(6)]
    assert {a.verdict for a in answers} == {Verdict.NOT_SENT}
    assert {a.reason for a in answers} == {"connection_failed", "breaker_open"}
    assert o.courier.status()["breaker"] == "open"
    with SmtpServer(port) as server:

        def goes() -> bool:
            o.do(call(uuid.uuid4().hex))
            return bool(o.verdict() == Verdict.ACCEPTED)

        until(goes)
        assert o.courier.status()["breaker"] == "closed" and len(server.mails) == 1


def test_under_a_frozen_clock_calls_wait_for_their_server(hire: Hire, free_port: Callable[[], int]) -> None:
    port = free_port()
    settings = {"breaker_after": 2, "breaker_pause": 0.2, "breaker_longest": 0.4, "max_age": 60.0}
    o = hire(f"smtp://127.0.0.1:{port}", patient=True, **settings)
    o.begin()
    o.do(*(call(f"t{i}") for i in range(6)))
    until(lambda: o.courier.status()["breaker"] != "closed")
    with SmtpServer(port) as server:
        answers = [o.answer()[1] for _ in range(6)]
        assert {a.verdict for a in answers} == {Verdict.ACCEPTED}, answers
        assert len(server.mails) == 6


def test_no_call_without_marks(server: SmtpServer, free_port: Callable[[], int]) -> None:
    o = Office(server.url, f"redis://127.0.0.1:{free_port()}/0")
    try:
        o.courier.submit(o.claim, [Perform("t1:1", call("t1"))])
        assert o.answer()[1].reason == "marks_unavailable" and server.mails == []
    finally:
        o.courier.stop()
