"""Segmentation as it runs: the loop on a real broker and Redis, asked by gRPC; recounted by the oracle."""

import asyncio
import random
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rondo_common import kafka as kafka_clients
from rondo_common import redis_client, rpc, topics
from rondo_common.clock import Clock, iso
from rondo_common.commands import CommandWriter
from rondo_common.definitions import DefinitionStore
from rondo_common.ids import member_key
from rondo_common.problems import Problem, unavailable
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import StateView
from rondo_common.warehouse import Warehouse
from rondo_protos.segmentation.v1 import segmentation_pb2 as pb
from rondo_protos.segmentation.v1 import segmentation_pb2_grpc as pb_grpc
from services.segmentation.clients import WarehouseAudiences
from services.segmentation.grpc_server import SegmentationServicer
from services.segmentation.requests.audiences import AudienceRequests
from services.segmentation.requests.definitions import DefinitionRequests
from services.segmentation.store import States
from services.segmentation.streams import SegmentationStage, address_ids
from tests.support import segment_oracle as oracle
from tests.support.segment_oracle import Person
from tests.support.segment_records import member_event, records
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration
SECRET = "integration-secret"
DAY = 86_400_000
LOYAL = {"event": {"name": "Bought", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
BIG = {
    "and": [
        {"event": {"name": "Bought", "measure": "sum", "property": "total", "operator": "gt", "value": 50}},
        {"not": {"segment": {"id": "loyal"}}},
    ]
}


class Running:
    """A segmentation stage, its gRPC stub and a producer, on a workspace of its own."""

    def __init__(self, stub: Any, producer: Any, redis: Any, partitions: int):
        self.workspace = f"w{uuid.uuid4().hex[:10]}"
        self.stub, self.redis, self._producer = stub, redis, producer
        self.partitions = partitions

    def write(self, person: Person, user_id: str | None = None) -> None:
        at = min([t for t, *_ in person.events], default=0)
        made = member_event(person.member_id, "member.created", "new" + person.member_id, at, user_id=user_id)
        rows = [(at, topics.MEMBER_EVENTS, made), *records(person)]
        for _, topic, record in rows:
            record.workspace = self.workspace
            key = member_key(self.workspace, record.member_id)
            self._producer.produce(topic, key=key, value=msgspec.json.encode(record))
        assert self._producer.flush(20) == 0

    async def put(self, id: str, rule: Any) -> pb.PutResponse:
        body = msgspec.json.encode({"name": id, "rule": rule})
        return await self.stub.Put(
            pb.PutRequest(workspace=self.workspace, id=id, body_json=body, actor="t"), timeout=20
        )

    async def get(self, id: str) -> dict[str, Any]:
        answer = await self.stub.Get(pb.GetRequest(workspace=self.workspace, id=id))
        return msgspec.json.decode(answer.segment.body_json)

    async def members(self, id: str, limit: int = 7) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            asked = pb.ListMembersRequest(workspace=self.workspace, id=id, limit=limit, cursor=cursor)
            page = await self.stub.ListMembers(asked)
            found += [m.member_id for m in page.members]
            cursor = page.next_cursor
            if not cursor:
                return found

    async def preview(self, **body: Any) -> dict[str, Any]:
        asked = pb.PreviewRequest(workspace=self.workspace, body_json=msgspec.json.encode(body))
        return msgspec.json.decode((await self.stub.Preview(asked, timeout=20)).answer_json)

    async def until(self, ask: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + PATIENT * 40
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
            await asyncio.sleep(0.1)
        raise AssertionError(f"never came: {answer}")


class NoInsights:
    """Insights that is down: previews are counted by the evaluator."""

    async def CatchUp(self, request: Any, timeout: float) -> Any:
        raise unavailable("insights", "down")


@pytest.fixture
async def running(kafka: str, redis_url: str, topics: Any, tmp_path: Path) -> AsyncIterator[Running]:
    topics.catalogue()
    settings = Settings(
        service="segmentation",
        kafka=kafka,
        redis=redis_url,
        secret=SECRET,
        data_dir=str(tmp_path),
        slot=uuid.uuid4().hex[:6],
    )
    ended = threading.Event()
    stage = SegmentationStage(SECRET)
    runner = StageRunner(stage, settings, Clock(), on_exit=lambda code: ended.set()).start()
    definitions = DefinitionStore(settings, Clock(), CommandWriter(settings, Clock()))
    definitions.start()
    redis = redis_client.connect(redis_url)
    view = StateView(redis, stage.name, stage.types, settings.partitions)
    states = States(view, definitions, partial(address_ids, SECRET))
    requests = DefinitionRequests(definitions, states)
    away = WarehouseAudiences(Warehouse("http://127.0.0.1:9"), NoInsights())
    servicer = SegmentationServicer(requests, AudienceRequests(states, Clock(), requests.known, away))
    server = rpc.Server([rpc.Servicer(pb, pb_grpc.add_SegmentationServiceServicer_to_server, servicer)])
    port = await server.start()
    channel = rpc.channel(f"127.0.0.1:{port}", "segmentation")
    try:
        deadline = time.monotonic() + PATIENT * 60
        while not (runner.ready()[0] and definitions.ready()[0]):
            assert time.monotonic() < deadline and not ended.is_set(), runner.ready()
            await asyncio.sleep(0.05)
        stub = pb_grpc.SegmentationServiceStub(channel)
        yield Running(stub, kafka_clients.producer(kafka), redis, settings.partitions)
    finally:
        await channel.close()
        await server.stop(0)
        await asyncio.to_thread(runner.stop)
        await asyncio.to_thread(definitions.stop)
        redis.close()


def crowd(now: int, size: int = 60) -> list[Person]:
    rnd = random.Random(5)
    people = []
    for i in range(size):
        person = Person(f"{rnd.getrandbits(32):08x}-{i}")
        for _ in range(rnd.randint(0, 6)):
            at = now - rnd.randint(1, 200) * DAY
            person.events.append((at, "Bought", {"total": rnd.choice((5, 20, 31.5))}))
        people.append(person)
    return people


async def test_from_facts_to_memberships_and_answers(running: Running) -> None:
    r = running
    now = Clock().now()
    people = crowd(now)
    for person in people[:30]:
        r.write(person, "u-" + person.member_id)
    assert (await r.put("loyal", LOYAL)).created
    again = await r.put("loyal", LOYAL)
    assert (again.segment.version, again.created) == (1, False)
    await r.put("big", BIG)
    for person in people[30:]:
        r.write(person)

    segments = {"loyal": LOYAL, "big": BIG}
    for id, rule in segments.items():
        expected = sorted(p.member_id for p in people if oracle.holds(rule, p, now, segments))
        assert 0 < len(expected) < len(people)
        count = len(expected)
        shown = await r.until(
            lambda id=id: r.get(id), lambda s, count=count: s["status"] == "live" and s["count"] == count
        )
        assert shown["version"] == 1 and shown["rule"] == rule
        assert await r.members(id) == expected
        found = await r.preview(rule=rule, samples=5)
        assert (found["count"], found["exact"]) == (count, True)
        assert [s["member_id"] for s in found["samples"]] == expected[:5]
        assert found["anonymous"] == sum(p.member_id in expected for p in people[30:])
    past = now - 60 * DAY
    found = await r.preview(rule=BIG, at=iso(past))
    assert found["count"] == sum(oracle.holds(BIG, p, past, segments) for p in people)
    bought = [sum(oracle.holds(leaf, p, past, segments) for p in people) for leaf in (BIG["and"][0], LOYAL)]
    assert found["leaves"] == [
        {"pointer": "/and/0", "count": bought[0]},
        {"pointer": "/and/1/not", "count": bought[1]},
    ]

    some = next(p for p in people if oracle.holds(LOYAL, p, now))
    asked = pb.ExplainRequest(workspace=r.workspace, member_id=some.member_id, segment="loyal")
    why = msgspec.json.decode((await r.stub.Explain(asked)).explanation_json)
    bought_at = sorted(t for t, *_ in some.events if t > now - 90 * DAY)
    assert why["in"] and why["valid_until"] == iso(bought_at[-3] + 90 * DAY)
    assert why["leaves"] == [{"pointer": "", "value": True, "inputs": {"count": len(bought_at)}}]
    mine = pb.ListMemberSegmentsRequest(workspace=r.workspace, member_id=some.member_id)
    assert [s.segment for s in (await r.stub.ListMemberSegments(mine)).segments] == ["loyal"]

    # a new version moves everybody, those that nest it too
    never = {"event": {"name": "Never"}}
    await r.put("loyal", never)
    segments["loyal"] = never
    count = sum(oracle.holds(BIG, p, now, segments) for p in people)
    await r.until(lambda: r.get("loyal"), lambda s: s["status"] == "live" and s["version"] == 2 and s["count"] == 0)
    await r.until(lambda: r.get("big"), lambda s: s["count"] == count)


async def test_an_empty_redis_changes_no_answer(running: Running) -> None:
    r = running
    now = Clock().now()
    people = crowd(now, 20)
    await r.put("loyal", LOYAL)
    for person in people[:10]:
        r.write(person)
    await r.until(lambda: r.preview(rule={"not": {"event": {"name": "Never"}}}), lambda a: a["count"] == 10)
    r.redis.flushall()
    for person in people[10:]:
        r.write(person)
    expected = sorted(p.member_id for p in people if oracle.holds(LOYAL, p, now))
    await r.until(lambda: r.preview(rule={"not": {"event": {"name": "Never"}}}), lambda a: a["count"] == 20)
    await r.until(lambda: r.members("loyal"), lambda found: found == expected)


async def test_refusals_travel(running: Running) -> None:
    r = running
    with pytest.raises(Problem) as wrong:
        await r.put("x", {"and": [{"trait": {"field": "plan", "operator": "greater", "value": 1}}]})
    assert wrong.value.status == 422
    assert wrong.value.errors[0]["pointer"] == "/rule/and/0/trait/operator"
    with pytest.raises(Problem) as later:
        await r.put("x", {"sequence": {}})
    assert later.value.status == 501
    with pytest.raises(Problem) as bad_id:
        await r.put("Not An Id", LOYAL)
    assert bad_id.value.status == 422
    for call in (
        r.stub.Get(pb.GetRequest(workspace=r.workspace, id="none")),
        r.stub.Delete(pb.DeleteRequest(workspace=r.workspace, id="none")),
        r.stub.ListMembers(pb.ListMembersRequest(workspace=r.workspace, id="none")),
    ):
        with pytest.raises(Problem) as missing:
            await call
        assert missing.value.status == 404
    await r.put("base", LOYAL)
    await r.put("outer", {"segment": {"id": "base"}})
    with pytest.raises(Problem) as used:
        await r.stub.Delete(pb.DeleteRequest(workspace=r.workspace, id="base"), timeout=20)
    assert used.value.status == 409
    await r.stub.Delete(pb.DeleteRequest(workspace=r.workspace, id="outer"), timeout=20)
    await r.stub.Delete(pb.DeleteRequest(workspace=r.workspace, id="base"), timeout=20)
    listed = await r.stub.List(pb.ListRequest(workspace=r.workspace))
    assert not listed.segments
    with pytest.raises(Problem) as nobody:
        await r.put("again", LOYAL)
        asked = pb.ExplainRequest(workspace=r.workspace, member_id="nobody", segment="again")
        await r.stub.Explain(asked)
    assert nobody.value.status == 404
