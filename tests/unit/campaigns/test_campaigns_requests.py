"""What people ask for, over the stage: definitions, control, triggers, sends, runs."""

import json

import pytest

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.problems import Problem
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from services.campaigns.requests.messages import Recipient
from tests.support.campaigns_service import Service
from tests.support.campaigns_world import BROADCAST, START, TRIGGERED, WORKSPACE, member

SEVEN = {"pending", "deferred", "queued", "sent", "skipped", "failed", "unknown"}


@pytest.fixture
def service() -> Service:
    return Service()


async def broadcast(service: Service, members: int = 10, **body) -> None:
    await service.segment("loyal", *(member(n) for n in range(members)))
    await service.campaign("spring", {**BROADCAST, **body})


async def start(service: Service, campaign: str = "spring", key: str = "") -> str:
    return await service.control.start(WORKSPACE, campaign, key, "k1")


async def run(service: Service, run_id: str) -> dict:
    found = await service.requests.runs.get(WORKSPACE, run_id)
    assert set(found["counts"]) == SEVEN and sum(found["counts"].values()) == found["touches"]
    for bucket, reasons in found["reasons"].items():
        assert sum(reasons.values()) == found["counts"][bucket]
    return found


async def refused(status: int, pointer: str | None, call) -> Problem:
    with pytest.raises(Problem) as caught:
        await call
    assert caught.value.status == status
    assert pointer is None or pointer in [e["pointer"] for e in caught.value.errors]
    return caught.value


async def test_a_broadcast_from_start_to_finish(service: Service) -> None:
    await broadcast(service)
    run_id = await start(service)
    world = service.world
    found = await run(service, run_id)
    assert (found["status"], found["audience"], found["touches"], found["counts"]["pending"]) == ("running", 10, 10, 10)
    assert found["campaign"] == "spring" and found["version"] == 1 and found["started_at"] == iso(START)
    assert (found["finished_at"], found["rate_per_s"], found["eta_s"]) == (None, None, None)
    for i, t in enumerate(world.touches()):
        if i == 0:
            world.decide(t, "skip", "consent_missing")
            continue
        world.decide(t, "send")
        if i == 1:
            world.deliver(t, "rejected", "hard_bounce")
        elif i == 2:
            world.deliver(t, "unknown", "timeout")
        else:
            world.deliver(t, "accepted")
            world.deliver(t, "delivered")
    world.driver.advance(START + 2000)
    found = await run(service, run_id)
    assert found["status"] == "finished" and found["finished_at"] == iso(START) and found["eta_s"] == 0
    assert found["counts"] == dict.fromkeys(SEVEN, 0) | {"sent": 7, "skipped": 1, "failed": 1, "unknown": 1}
    assert found["reasons"]["skipped"] == {"consent_missing": 1} and found["reasons"]["failed"] == {"hard_bounce": 1}
    assert found["engagement"] == {"delivered": 7} and found["rate_per_s"] == 3.5


async def test_scheduled_paused_resumed_cancelled(service: Service) -> None:
    await broadcast(service, schedule={"at": iso(START + 60_000)})
    run_id = await start(service)
    assert (await run(service, run_id))["status"] == "scheduled"
    await service.control.pause(WORKSPACE, "spring", "k1")
    assert (await run(service, run_id))["status"] == "paused"
    await service.control.resume(WORKSPACE, "spring", "k1")
    service.world.driver.advance(START + 60_000)
    found = await run(service, run_id)
    assert (found["status"], found["touches"], found["started_at"]) == ("running", 10, iso(START + 60_000))
    await service.control.cancel(WORKSPACE, "spring", "k1")
    assert (await run(service, run_id))["status"] == "cancelled"


async def test_a_schedule_in_the_past_begins_now(service: Service) -> None:
    await broadcast(service, schedule={"at": iso(START - 86_400_000)})
    run_id = await start(service)
    assert (await run(service, run_id))["started_at"] == iso(START) and len(service.world.touches()) == 10


async def test_starting_again_is_a_new_run_the_same_key_is_not(service: Service) -> None:
    await broadcast(service)
    first = await start(service, key="a")
    assert await start(service, key="a") == first
    assert len(service.world.touches()) == 10
    assert await start(service) != first and await start(service, key="b") != first
    assert len(service.world.touches()) == 30


async def test_what_control_refuses(service: Service) -> None:
    await broadcast(service)
    await service.campaign("cart", TRIGGERED)
    for verb in (service.control.pause, service.control.resume, service.control.cancel):
        await refused(404, None, verb(WORKSPACE, "none", "k1"))
        await refused(404, None, verb("other", "spring", "k1"))
    run_id = await start(service, "cart", key="a")
    assert await start(service, "cart", key="a") == run_id
    assert "already" in (await refused(409, None, start(service, "cart"))).type
    await service.control.pause(WORKSPACE, "cart", "k1")
    await service.control.pause(WORKSPACE, "cart", "k1")
    await refused(409, None, start(service, "cart"))
    await service.control.cancel(WORKSPACE, "cart", "k1")
    await refused(409, None, service.control.resume(WORKSPACE, "cart", "k1"))
    await refused(409, None, service.control.pause(WORKSPACE, "cart", "k1"))
    again = await start(service, "cart")
    assert again != run_id and (await run(service, run_id))["status"] == "cancelled"
    service.world.track(member(1), "Cart Abandoned")
    assert [t.run_id for t in service.world.touches()] == [again]


async def test_two_starts_at_once_open_one_run(service: Service) -> None:
    await service.campaign("cart", TRIGGERED)
    first: list[str] = []

    def meanwhile(kind: str) -> None:
        service.definitions.before_put = None
        coroutine = start(service, "cart")
        try:
            while True:
                coroutine.send(None)
        except StopIteration as done:
            first.append(done.value)

    service.definitions.before_put = meanwhile
    await refused(409, None, start(service, "cart"))
    service.world.track(member(1), "Cart Abandoned")
    assert [t.run_id for t in service.world.touches()] == first


async def test_a_start_that_died_half_way_is_repaired_by_its_repeat(service: Service) -> None:
    await service.campaign("cart", TRIGGERED)

    def die(kind: str) -> None:
        if kind == "run":
            raise Problem(503, "unavailable", "Kafka")

    service.definitions.before_put = die
    await refused(503, None, start(service, "cart", key="a"))
    service.definitions.before_put = None
    run_id = await start(service, "cart", key="a")
    service.world.track(member(1), "Cart Abandoned")
    assert [t.run_id for t in service.world.touches()] == [run_id]


async def test_trigger_for_members(service: Service) -> None:
    await service.campaign("cart", {**TRIGGERED, "trigger": {"api": True}})
    named = [Recipient(member(1), b'{"code":"own"}'), Recipient(member(2), b""), Recipient(member(1), b"")]
    ask = (WORKSPACE, "cart", named, b'{"code":"all","x":1}', "key", "k1")
    run_id, accepted = await service.requests.messages.trigger(*ask)
    assert await service.requests.messages.trigger(*ask) == (run_id, accepted) and accepted == 2
    data = {t.member_id: json.loads(bytes(t.data)) for t in service.world.touches("triggered")}
    assert data == {member(1): {"code": "own", "x": 1}, member(2): {"code": "all", "x": 1}}
    assert (await run(service, run_id))["status"] == "running"
    for t in service.world.touches():
        service.world.decide(t, "skip", "no_address")
    found = await run(service, run_id)
    assert (found["status"], found["audience"], found["kind"]) == ("finished", 2, "api")


async def test_trigger_for_nobody_is_finished(service: Service) -> None:
    await service.campaign("cart", TRIGGERED)
    run_id, accepted = await service.requests.messages.trigger(WORKSPACE, "cart", [], b"", "", "k1")
    assert accepted == 0 and (await run(service, run_id))["status"] == "finished"


async def test_trigger_for_an_audience(service: Service) -> None:
    await broadcast(service, 4)
    messages = service.requests.messages
    run_id = await messages.trigger_audience(WORKSPACE, "spring", b"", b'{"code":"X"}', "", "k1")
    touches = [t for t in service.world.touches() if t.run_id == run_id]
    assert len(touches) == 4 and {bytes(t.data) for t in touches} == {b'{"code":"X"}'}
    rule = b'{"bucket":{"seed":"a","from":0,"to":1}}'
    second = await messages.trigger_audience(WORKSPACE, "spring", rule, b"", "", "k1")
    assert (await run(service, second))["touches"] == 0
    segment = next(
        d.id for d in service.definitions.list(WORKSPACE, "segment") if d.id.startswith("campaign-recipients-")
    )
    service.world.membership(member(2), segment)
    service.world.live(segment)
    assert (await run(service, second))["touches"] == 1
    await service.campaign("cart", TRIGGERED)
    await refused(422, "/broadcast", messages.trigger_audience(WORKSPACE, "cart", b"", b"", "", "k1"))
    await refused(422, "/recipients/bad", messages.trigger_audience(WORKSPACE, "cart", b'{"bad":1}', b"", "", "k1"))


async def test_triggers_of_a_paused_or_cancelled_campaign_are_refused(service: Service) -> None:
    await broadcast(service, 1)
    messages = service.requests.messages
    named = [Recipient(member(1), b"")]
    await service.control.pause(WORKSPACE, "spring", "k1")
    await refused(409, None, messages.trigger(WORKSPACE, "spring", named, b"", "", "k1"))
    await refused(409, None, messages.trigger_audience(WORKSPACE, "spring", b"", b"", "", "k1"))
    await service.control.cancel(WORKSPACE, "spring", "k1")
    await refused(409, None, messages.trigger(WORKSPACE, "spring", named, b"", "", "k1"))


async def test_send(service: Service) -> None:
    await broadcast(service, 1)
    send = service.requests.messages.send
    ann = member(1)
    touch_id = await send(WORKSPACE, "email", ann, "spring", b"", b'{"a":1}', "key", "k1")
    assert await send(WORKSPACE, "email", ann, "spring", b"", b'{"a":1}', "key", "k1") == touch_id
    assert [t.touch_id for t in service.world.touches("transactional")] == [touch_id]
    inline = b'{"sms":{"text":"At nine."}}'
    assert await send(WORKSPACE, "sms", ann, "", inline, b"", "", "k1") != touch_id
    await refused(422, "/template", send(WORKSPACE, "email", ann, "none", b"", b"", "", "k1"))
    await refused(422, "/template", send(WORKSPACE, "sms", ann, "spring", b"", b"", "", "k1"))
    await refused(422, "/content/email", send(WORKSPACE, "email", ann, "", inline, b"", "", "k1"))
    await refused(422, "/content/sms/text", send(WORKSPACE, "sms", ann, "", b'{"sms":{"text":"{{"}}', b"", "", "k1"))
    await refused(422, None, send(WORKSPACE, "sms", ann, "", b"", b"", "", "k1"))
    await refused(501, None, send(WORKSPACE, "social", ann, "spring", b"", b"", "", "k1"))


async def test_definitions_and_their_references(service: Service) -> None:
    put = service.requests.definitions.put_campaign

    def body(**more) -> bytes:
        return json.dumps({**BROADCAST, **more}).encode()

    found = await refused(422, "/template", put(WORKSPACE, "spring", body(), "k1", None))
    assert "/audience/segment" in [e["pointer"] for e in found.errors]
    await broadcast(service)
    assert await service.campaign("spring", BROADCAST) == 1
    assert await service.campaign("spring", {**BROADCAST, "priority": 60}) == 2
    shown = json.loads(
        service.requests.definitions.body(service.requests.definitions.get(WORKSPACE, "campaign", "spring", 0))
    )
    assert (shown["id"], shown["version"], shown["priority"], shown["status"]) == ("spring", 2, 60, "draft")
    await refused(422, "/id", put(WORKSPACE, "Spring!", body(), "k1", None))
    await refused(412, None, put(WORKSPACE, "spring", body(priority=1), "k1", 1))
    await refused(422, "/audience/rule/bad", put(WORKSPACE, "spring", body(audience={"rule": {"bad": 1}}), "k1", None))
    service.segments.down = True
    await refused(503, None, put(WORKSPACE, "spring", body(audience={"segment": "new"}), "k1", None))
    assert await service.campaign("spring", {**BROADCAST, "priority": 61}) == 3, "a known segment needs no question"


async def test_an_inline_rule_becomes_a_segment(service: Service) -> None:
    await service.campaign("spring", {**BROADCAST, "audience": {"rule": {"reachable": {"channel": "sms"}}}})
    d = service.definitions.get(WORKSPACE, "segment", "campaign-spring")
    assert d is not None and json.loads(bytes(d.body))["rule"] == {"reachable": {"channel": "sms"}}
    run_id = await start(service)
    assert (await run(service, run_id))["touches"] == 0
    service.world.membership(member(1), "campaign-spring")
    service.world.live("campaign-spring")
    assert (await run(service, run_id))["touches"] == 1


async def test_a_missing_view_is_unavailable_never_zero(service: Service) -> None:
    await broadcast(service)
    run_id = await start(service)
    service.views.restoring = {1}
    await refused(503, None, service.requests.runs.get(WORKSPACE, run_id))
    await refused(404, None, service.requests.runs.get(WORKSPACE, "none"))
    await refused(404, None, service.requests.runs.get("other", run_id))


async def test_lists_by_page(service: Service) -> None:
    await broadcast(service)
    for n in range(3):
        await service.campaign(f"c{n}", BROADCAST)
    runs = [await start(service, key=str(n)) for n in range(5)]
    servicer, seen, cursor = service.servicer, [], ""
    while True:
        page = await servicer.ListRuns(pb.ListRunsRequest(workspace=WORKSPACE, limit=2, cursor=cursor), None)
        seen += [json.loads(r)["run_id"] for r in page.runs_json]
        if not (cursor := page.next_cursor):
            break
    assert seen == runs[::-1]
    page = await servicer.ListCampaigns(pb.ListCampaignsRequest(workspace=WORKSPACE, limit=3), None)
    assert [c.id for c in page.campaigns] == ["c0", "c1", "c2"] and page.next_cursor == "c2"
    page = await servicer.ListCampaigns(pb.ListCampaignsRequest(workspace=WORKSPACE, cursor="c2"), None)
    assert [c.id for c in page.campaigns] == ["spring"] and not page.next_cursor
    assert not (await servicer.ListRuns(pb.ListRunsRequest(workspace="other"), None)).runs_json


async def test_touch_ids_follow_from_the_run(service: Service) -> None:
    await broadcast(service, 1)
    run_id = await start(service)
    assert service.world.touches()[0].touch_id == ids.touch_id(run_id, "main", member(0), "1")
