"""Public events and webhook calls out of inside records."""

import msgspec
import pytest

from rondo_common import ids, topics
from rondo_common.records import (
    Command,
    CommunityEvent,
    Contact,
    Decision,
    Definition,
    Delivery,
    GateVerdict,
    MemberEvent,
    MembershipChange,
)
from services.egress.mapping import INSIDE, of_member, wanted
from services.egress.model import Answer
from services.egress.retries import SCHEDULE_S
from services.egress.streams import EgressStage
from tests.support.stage_driver import StageDriver

NOW = 1_700_000_000_000
KEY = ids.member_key("demo", "m1")


@pytest.fixture
def driver():
    return StageDriver(EgressStage(), clock=NOW)


def _hook(driver, types, partition):
    body = msgspec.Raw(msgspec.json.encode({"url": "http://crm/x", "types": types}))
    d = Definition("demo", "webhook", "w1", 1, body, "2026-01-01T00:00:00Z")
    command = Command("definition.activated", "demo", "c1", "2026-01-01T00:00:00Z", definition=d)
    driver.feed(topics.COMMANDS, "demo:webhook", command, partition=partition)


def _sent(id="d1", status="accepted"):
    return Delivery(
        "demo", id, "t1", "m1", "email", "smtp", status, "2026-01-01T00:00:01Z", campaign="spring", run_id="r1"
    )


def test_a_delivery_becomes_message_sent_with_the_user_id_crms_know(driver):
    driver.feed(topics.CONTACTS, KEY, Contact("demo", "m1", user_id="u1"))
    driver.feed(topics.DELIVERIES, KEY, _sent())
    (out,) = driver.emitted(topics.CRM_EVENTS)
    event = msgspec.json.decode(out.data)
    assert (out.key, out.type, out.subject) == (KEY, "message.sent", "m1")
    assert event["type"] == "message.sent"
    assert event["timestamp"] == "2026-01-01T00:00:01Z"
    assert event["data"] == {
        "workspace": "demo", "member_id": "m1", "user_id": "u1", "campaign": "spring", "run_id": "r1",
        "touch_id": "t1", "channel": "email", "provider": "smtp",
    }  # fmt: skip


def test_the_same_record_gives_the_same_id_and_another_one_another(driver):
    for d in (_sent("d1"), _sent("d1"), _sent("d2")):
        driver.feed(topics.DELIVERIES, KEY, d)
    found = [e.id for e in driver.emitted(topics.CRM_EVENTS)]
    assert found[0] == found[1] != found[2]


def test_what_stays_inside(driver):
    driver.feed(topics.MEMBER_EVENTS, KEY, MemberEvent("demo", "m1", "track", "e1", "2026-01-01T00:00:00Z", name="X"))
    driver.feed(topics.DELIVERIES, KEY, _sent(status="returned"))
    live = MembershipChange("demo", "loyal", 1, "live", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "x")
    driver.feed(topics.MEMBERSHIP_CHANGES, "demo:segment:loyal", live)
    assert driver.emitted(topics.CRM_EVENTS) == []


def test_what_stays_inside_is_known_by_its_header_and_not_even_read(driver):
    for kind in sorted(INSIDE):
        driver.feed(topics.MEMBER_EVENTS, KEY, b"no JSON", headers={"ce_type": kind})
    assert driver.emitted(topics.CRM_EVENTS) == []
    assert driver.drops["inside"] == len(INSIDE)
    told = MemberEvent("demo", "m1", "member.created", "e1", "2026-01-01T00:00:00Z")
    driver.feed(topics.MEMBER_EVENTS, KEY, told, headers={"ce_type": told.kind})
    assert [e.type for e in driver.emitted(topics.CRM_EVENTS)] == ["member.created"]


@pytest.mark.parametrize(
    ("topic", "headers"),
    [
        (topics.DECISIONS, {"ce_type": "decision.made", "verdict": "send"}),
        (topics.DELIVERIES, {"ce_type": "delivery.returned"}),
        (topics.DELIVERIES, {"ce_type": "rondo.delivery.deferred"}),
    ],
)
def test_messages_that_are_told_by_another_record_are_dropped_by_their_header(driver, topic, headers):
    driver.feed(topic, KEY, b"no JSON", headers=headers)
    assert driver.drops["inside"] == 1 and not driver.dead and not driver.emitted()


def test_without_those_headers_the_record_itself_is_read(driver):
    driver.feed(topics.DELIVERIES, KEY, _sent("d9", "returned"))
    assert driver.drops["inside"] == 1 and not driver.emitted()


@pytest.mark.parametrize("kind", sorted(INSIDE))
def test_no_kind_is_both_inside_and_told(kind):
    assert of_member(MemberEvent("demo", "m1", kind, "e1", "2026-01-01T00:00:00Z"), None) is None


def test_a_skip_tells_its_reason_and_a_conversation_is_told_once(driver):
    d = Decision("demo", "dec1", "t1", 1, "spring", 1, "r1", "main", "m1", "sms", "2026-01-01T00:00:00Z", "skip",
                 [GateVerdict("consent", "skip", "consent_missing")], reason="consent_missing")  # fmt: skip
    driver.feed(topics.DECISIONS, KEY, d)
    opened = CommunityEvent("demo", "ev1", "conversation.opened", "c1", 1, "m1", "sms", "2026-01-01T00:00:00Z")
    for _ in range(2):
        driver.feed(topics.COMMUNITY, KEY, opened)
    kinds = [(e.type, msgspec.json.decode(e.data)["data"].get("reason")) for e in driver.emitted(topics.CRM_EVENTS)]
    assert kinds == [("message.skipped", "consent_missing"), ("conversation.opened", None)]


def test_a_webhook_is_called_until_it_answers_with_the_same_bytes(driver):
    from rondo_common.partition import partition_of

    _hook(driver, ["message.*"], partition_of(KEY))
    driver.feed(topics.DELIVERIES, KEY, _sent(), time=NOW)
    (first,) = driver.performed
    (public,) = driver.emitted(topics.CRM_EVENTS)
    assert first.task.body == public.data
    assert first.task.event_id == public.id
    driver.answer(first.id, Answer(False, 500))
    assert len(driver.performed) == 1
    driver.advance(NOW + 6_000)
    assert len(driver.performed) == 2
    assert driver.performed[1].task == first.task
    driver.answer(first.id, Answer(True, 200))
    driver.advance(NOW + 90_000_000)
    assert len(driver.performed) == 2


def test_a_webhook_that_never_answers_is_given_up_after_the_schedule(driver):
    from rondo_common.partition import partition_of

    _hook(driver, ["*"], partition_of(KEY))
    driver.feed(topics.DELIVERIES, KEY, _sent(), time=NOW)
    for _ in range(30):
        done = len(driver.performed)
        driver.answer(driver.performed[-1].id, Answer(False, 0))
        driver.advance(driver.now + 50_000_000)
        if len(driver.performed) == done:
            break
    assert len(driver.performed) == len(SCHEDULE_S)
    assert driver.drops["webhook_given_up"] == 1


@pytest.mark.parametrize(
    ("types", "kind", "yes"),
    [
        (["*"], "a.b", True),
        (["message.*"], "message.sent", True),
        (["message.*"], "messages.x", False),
        (["a.b"], "a.b", True),
        ([], "a.b", False),
    ],
)
def test_types_of_a_webhook(types, kind, yes):
    assert wanted(types, kind) is yes
