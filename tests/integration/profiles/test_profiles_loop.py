"""Profiles as it runs: the loop on a real broker and Redis, asked by gRPC."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Consumer

from rondo_common import kafka as kafka_clients
from rondo_common import redis_client, rpc, topics
from rondo_common.clock import Clock
from rondo_common.ids import identifier_id, member_key, workspace_secret
from rondo_common.problems import Problem
from rondo_common.records import Event, Profile
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import AsyncStateView
from rondo_protos.profiles.v1 import profiles_pb2 as pb
from rondo_protos.profiles.v1 import profiles_pb2_grpc as pb_grpc
from services.profiles.grpc_server import ProfilesServicer
from services.profiles.model import TYPES
from services.profiles.store import Members
from services.profiles.streams import ProfilesStage
from tests.support.slowness import ANSWER_S, PATIENT

pytestmark = pytest.mark.integration
SECRET = "integration-secret"


class Running:
    """A profiles stage, its gRPC stub and a producer, on a workspace of its own."""

    def __init__(self, stub: Any, producer: Any, bootstrap: str, redis: Any):
        self.workspace = f"w{uuid.uuid4().hex[:10]}"
        self.stub, self.bootstrap, self.redis, self._producer = stub, bootstrap, redis, producer
        self._count = 0

    def id(self, kind: str, value: str) -> str:
        return identifier_id(workspace_secret(SECRET, self.workspace), kind, value)

    def send(self, type: str, user: str | None = None, anonymous: str | None = None, **more: Any) -> None:
        self._count += 1
        for field in ("traits", "properties", "context"):
            if field in more:
                more[field] = msgspec.Raw(msgspec.json.encode(more[field]))
        at = more.pop("at", f"2026-11-20T10:00:{self._count:02d}Z")
        sender = self.id("user_id", user) if user else self.id("anonymous_id", anonymous or "")
        id = more.pop("message_id", f"m{self._count}")
        e = Event(self.workspace, type, id, sender, at, at, user_id=user, anonymous_id=anonymous, **more)
        self._producer.produce(topics.EVENTS, key=member_key(self.workspace, sender), value=msgspec.json.encode(e))
        assert self._producer.flush(10) == 0

    async def get(self, id: str, id_type: str = "id") -> dict[str, Any]:
        answer = await self.stub.Get(pb.GetRequest(workspace=self.workspace, id=id, id_type=id_type))
        return {"member_id": answer.member.member_id, **msgspec.json.decode(answer.member.profile_json)}

    async def until(self, ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
        """Ask until the answer is good; the last answer when it never is."""
        deadline = time.monotonic() + PATIENT * 30
        answer: Any = None
        while time.monotonic() < deadline:
            try:
                answer = await ask()
                if good(answer):
                    return answer
            except Problem as e:
                answer = e
                if e.status not in (404, 503):
                    raise
            await asyncio.sleep(0.05)
        raise AssertionError(f"never came: {answer}")


@pytest.fixture
async def running(kafka: str, redis_url: str, topics: Any, tmp_path: Path) -> AsyncIterator[Running]:
    topics.catalogue()
    settings = Settings(
        service="profiles",
        kafka=kafka,
        redis=redis_url,
        secret=SECRET,
        data_dir=str(tmp_path),
        slot=uuid.uuid4().hex[:6],
    )
    ended = threading.Event()
    runner = StageRunner(ProfilesStage(SECRET), settings, Clock(), on_exit=lambda code: ended.set()).start()
    redis = redis_client.connect_async(redis_url)
    members = Members(AsyncStateView(redis, "profiles", TYPES, settings.partitions), SECRET)
    servicer = rpc.Servicer(
        pb,
        pb_grpc.add_ProfilesServiceServicer_to_server,
        ProfilesServicer(members),
    )
    server = rpc.Server([servicer])
    port = await server.start()
    channel = rpc.channel(f"127.0.0.1:{port}", "profiles")
    producer = kafka_clients.producer(kafka)
    try:
        deadline = time.monotonic() + PATIENT * 60
        while not runner.ready()[0]:
            assert time.monotonic() < deadline and not ended.is_set(), runner.ready()
            await asyncio.sleep(0.05)
        yield Running(pb_grpc.ProfilesServiceStub(channel), producer, kafka, redis)
    finally:
        await channel.close()
        await server.stop(0)
        await redis.aclose(close_connection_pool=True)
        await asyncio.to_thread(runner.stop)


async def test_from_events_to_answers(running: Running) -> None:
    r = running
    r.send("track", anonymous="a1", event="Visited")
    r.send(
        "identify", "u1", "a1", traits={"email": "Ann@Example.com", "phone": "+33 6 12 34 56 78", "firstName": "Ann"}
    )
    for _ in range(2):
        r.send(
            "track",
            "u1",
            event="Order Completed",
            properties={"total": 3},
            message_id="same",
            at="2026-11-20T11:00:00Z",
        )
    r.send("track", anonymous="a1", event="Visited")
    r.send("alias", "u2", previous_id="u1")
    r.send("track", "u2", event="Visited")
    winner = min(r.id("user_id", "u1"), r.id("user_id", "u2"))

    def settled(p: dict[str, Any]) -> bool:
        return p.get("events") == 4 and p["member_id"] == winner

    for id, id_type in (
        ("u1", "id"),
        ("u2", ""),
        ("a1", "anonymous_id"),
        ("ann@example.com", "email"),
        ("+33612345678", "phone"),
        (winner, "member_id"),
    ):
        profile = await r.until(lambda id=id, id_type=id_type: r.get(id, id_type), settled)
        assert profile["event_counts"] == {"Order Completed": 1, "Visited": 3}
        assert profile["traits"]["firstName"] == "Ann"
        assert sorted(profile["user_ids"]) == ["u1", "u2"]
        assert profile["anonymous_ids"] == ["a1"]

    lookup = await r.stub.Lookup(pb.LookupRequest(workspace=r.workspace, ids=["u1", "nobody", "u2"]))
    assert [(f.id, f.member_id) for f in lookup.found] == [("u1", winner), ("u2", winner)]
    assert list(lookup.unknown) == ["nobody"]

    async def both() -> Any:
        return await r.stub.BatchGet(pb.BatchGetRequest(workspace=r.workspace, ids=["u2", "x"]))

    # a merge says so by a message of its own, which may come after the counts are right; of a1 only where its first event
    # was read before its link, for else it never was a member of its own
    loser = max(r.id("user_id", "u1"), r.id("user_id", "u2"))
    batch = await r.until(both, lambda b: loser in b.found[0].member.merged_from)
    assert set(batch.found[0].member.merged_from) <= {loser, r.id("anonymous_id", "a1")}
    assert batch.found[0].member.member_id == winner and list(batch.unknown) == ["x"]
    with pytest.raises(Problem) as missing:
        await r.stub.Get(pb.GetRequest(workspace=r.workspace, id="nobody"))
    assert missing.value.status == 404
    with pytest.raises(Problem) as wrong:
        await r.stub.Get(pb.GetRequest(workspace=r.workspace, id="u1", id_type="shoe_size"))
    assert wrong.value.status == 422
    assert _last_profile(r, winner).traits.keys() == {"email", "phone", "firstName"}


def _last_profile(r: Running, member_id: str) -> Profile:
    """The newest record of a member on rondo.profiles.v1, as a reader outside sees it."""
    consumer = Consumer(
        {
            "bootstrap.servers": r.bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    consumer.subscribe([topics.PROFILES])
    found: Profile | None = None
    deadline = time.monotonic() + PATIENT * 20
    quiet = 0
    try:
        while time.monotonic() < deadline and quiet < 10:
            m = consumer.poll(0.2)
            if m is None or m.error():
                quiet += found is not None
                continue
            if m.key().decode() == member_key(r.workspace, member_id):
                found = msgspec.json.decode(m.value(), type=Profile)
    finally:
        consumer.close()
    assert found is not None
    return found


async def test_pages_hold_every_member_once(running: Running) -> None:
    r = running
    for n in range(25):
        r.send("track", f"p{n}", event="Visited", at="2026-11-20T10:00:00Z")
    want = {r.id("user_id", f"p{n}") for n in range(25)}

    async def walk() -> list[str]:
        ids: list[str] = []
        cursor = ""
        while True:
            page = await r.stub.ListMembers(pb.ListMembersRequest(workspace=r.workspace, cursor=cursor, limit=4))
            assert len(page.members) <= 4
            ids += [m.member_id for m in page.members]
            cursor = page.next_cursor
            if not cursor:
                return ids

    ids = await r.until(walk, lambda found: len(found) >= 25)
    assert len(ids) == 25 and set(ids) == want


async def test_a_missing_view_is_unavailable_not_unknown(running: Running) -> None:
    r = running
    r.send("track", "v1", event="Visited")
    await r.until(lambda: r.get("v1"), lambda p: p.get("events") == 1)
    server = ProfilesServicer(Members(AsyncStateView(r.redis, "no-such-stage", TYPES, 8), SECRET))
    with pytest.raises(Problem) as gone:
        await server.Get(pb.GetRequest(workspace=r.workspace, id="v1"), None)
    assert gone.value.status == 503


async def test_the_process_as_it_is_started(
    kafka: str, redis_url: str, topics: Any, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    topics.catalogue()
    http, grpc = free_port(), free_port()
    root = Path(__file__).parents[3]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(root / p) for p in ("libs/common", "libs/cli", "protos", ".")),
        "RONDO_KAFKA": kafka,
        "RONDO_REDIS": redis_url,
        "RONDO_HTTP_PORT": str(http),
        "RONDO_GRPC_PORT": str(grpc),
        "RONDO_SLOT": "proc",
        "RONDO_SECRET": SECRET,
        "RONDO_DATA_DIR": str(tmp_path),
    }
    child = subprocess.Popen([sys.executable, "-m", "services", "profiles"], env=env, cwd=root)
    try:
        deadline = time.monotonic() + PATIENT * 60
        async with httpx.AsyncClient(timeout=ANSWER_S) as client:
            status = 0
            while status != 200:
                assert time.monotonic() < deadline and child.poll() is None
                with contextlib.suppress(httpx.TransportError):
                    status = (await client.get(f"http://127.0.0.1:{http}/readyz")).status_code
                await asyncio.sleep(0.1)
            metrics = (await client.get(f"http://127.0.0.1:{http}/metrics")).text
            assert "process_cpu_seconds_total" in metrics
        channel = rpc.channel(f"127.0.0.1:{grpc}", "profiles")
        stub = pb_grpc.ProfilesServiceStub(channel)
        r = Running(stub, kafka_clients.producer(kafka), kafka, None)
        r.send("track", "u1", event="Visited")
        await r.until(lambda: r.get("u1"), lambda p: p.get("events") == 1)
        await channel.close()
        child.terminate()
        assert await asyncio.to_thread(child.wait, 10) == 0
    finally:
        child.kill()
