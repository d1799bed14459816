"""The delivery stage, input by input: from a send to its recorded outcome."""

import msgspec
import pytest

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.records import ConsentEntry
from services.delivery.members import address_id
from services.delivery.model import Forget, Stop, Verdict
from tests.support.delivery_world import MEMBER, NOW, SECRET, TOUCH, WS, World, send, suppression


def test_a_send_is_written_ahead_then_called_then_recorded() -> None:
    w = World()
    w.send()
    assert w.state().status == "submitting" and w.state().calls == 1
    (call,) = w.tasks()
    assert call.id == f"{TOUCH}:1" and call.message.to == "ann@example.com"
    assert call.message.subject == "Hi Ann" and "/u/" in call.message.unsubscribe
    assert w.deliveries() == []
    w.answer(Verdict.ACCEPTED, provider_id="<x>")
    (d,) = w.deliveries()
    assert (d.status, d.provider, d.provider_id, d.campaign, d.attempt) == ("accepted", "smtp", "<x>", "spring", 1)
    assert w.state().status == "accepted" and bytes(w.state().send) == b"null"
    assert [f.call for f in w.tasks(Forget)] == [call.id]


def test_every_channel_renders_its_own_address_and_text() -> None:
    for channel, to, text in (("sms", "+33612345678", "Hi Ann"), ("messaging", "991", "Hi Ann X1")):
        w = World(channel)
        w.send(data=msgspec.Raw(b'{"code":"X1"}'))
        (call,) = w.tasks()
        assert (call.message.to, call.message.text.strip()) == (to, text)
        assert call.message.unsubscribe == ""


def test_the_language_follows_the_member() -> None:
    w = World("sms", member=False)
    w.contact(locale="fr-FR")
    w.profile()
    w.send()
    assert w.tasks()[0].message.text == "Salut Ann"


def test_a_repeated_send_changes_nothing() -> None:
    w = World()
    w.send()
    w.send()
    w.answer(Verdict.ACCEPTED)
    w.send()
    w.send(attempt=2)
    assert len(w.tasks()) == 1 and w.statuses() == ["accepted"]


def test_a_template_version_that_is_not_here_makes_the_send_wait() -> None:
    w = World(template=False)
    w.send()
    assert w.tasks() == [] and len(w.driver.waiting()) == 1
    w.template(version=2)
    assert len(w.driver.waiting()) == 1
    w.template(version=3)
    assert len(w.tasks()) == 1 and w.driver.waiting() == []


def test_a_member_that_is_not_here_makes_the_send_wait_but_not_for_ever() -> None:
    w = World(member=False)
    w.send()
    w.contact()
    assert w.tasks() == []
    w.profile()
    assert len(w.tasks()) == 1
    lonely = World(member=False)
    lonely.send()
    lonely.advance(30_000)
    assert [(d.status, d.reason) for d in lonely.deliveries()] == [("rejected", "consent_missing")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"consents": []}, "consent_missing"),
        ({"consents": [ConsentEntry("email", "offers", "denied", iso(NOW), "e")]}, "consent_denied"),
        ({"email": None}, "no_address"),
        ({"merged_into": "other"}, "merged"),
        ({"erased": True}, "erased"),
        ({"suppressions": [suppression("email", "bounce")]}, "suppressed_bounce"),
        (
            {"suppressions": [suppression("email", "complaint", address_id(SECRET, WS, "email", "Ann@example.com "))]},
            "suppressed_complaint",
        ),
    ],
)
def test_the_last_gate_refuses_what_changed_since_the_decision(change: dict, reason: str) -> None:
    w = World()
    w.contact(**change)
    w.send()
    (d,) = w.deliveries()
    assert (d.status, d.reason, d.permanent) == ("rejected", reason, False)
    assert w.tasks() == []


def test_another_address_s_suppression_stops_nobody() -> None:
    w = World()
    w.contact(suppressions=[suppression("email", "bounce", "another"), suppression("sms", "bounce")])
    w.send()
    assert len(w.tasks()) == 1


def test_transactional_needs_no_consent_and_has_no_unsubscribe() -> None:
    w = World()
    w.contact(consents=[])
    w.send(class_="transactional", lane="transactional")
    (call,) = w.tasks()
    assert call.message.unsubscribe == ""


def test_a_tombstone_means_erased() -> None:
    w = World()
    w.driver.feed(topics.CONTACTS, ids.member_key(WS, MEMBER), None)
    w.send()
    assert [(d.status, d.reason) for d in w.deliveries()] == [("rejected", "erased")]


def test_a_send_past_its_window_is_returned_and_the_next_attempt_goes() -> None:
    w = World()
    w.send(send_by=iso(NOW - 1))
    assert w.statuses() == ["returned"]
    w.send(attempt=2)
    assert len(w.tasks()) == 1
    w.answer(Verdict.ACCEPTED)
    assert w.statuses() == ["returned", "accepted"] and w.deliveries()[-1].attempt == 2


def test_not_before_lies_in_the_future() -> None:
    w = World()
    w.send(not_before=iso(NOW + 5_000))
    assert w.tasks() == [] and w.state().status == "queued"
    w.advance(4_999)
    assert w.tasks() == []
    w.advance(1)
    assert len(w.tasks()) == 1


def test_pause_holds_resume_releases() -> None:
    w = World()
    w.command("campaign.pause", campaign="spring")
    assert w.tasks(Stop) == [Stop(WS, "spring", "paused")]
    w.send()
    assert w.state().status == "held" and w.tasks() == [] and w.deliveries() == []
    assert w.driver.state(f"h:{WS}:spring:{TOUCH}") is not None
    w.command("campaign.resume", campaign="spring")
    assert len(w.tasks()) == 1 and w.driver.state(f"h:{WS}:spring:{TOUCH}") is None
    assert w.tasks(Stop)[-1] == Stop(WS, "spring", None)


def test_cancel_ends_what_is_held() -> None:
    w = World()
    w.command("campaign.pause", campaign="spring")
    w.send()
    w.command("campaign.cancel", campaign="spring")
    assert [(d.status, d.reason) for d in w.deliveries()] == [("cancelled", "campaign_cancelled")]
    w.command("campaign.resume", campaign="spring")
    assert w.tasks() == [] and len(w.deliveries()) == 1


def test_the_stop_switch_holds_marketing_only() -> None:
    w = World()
    w.command("stop.on")
    w.send()
    w.send(touch="t2", class_="transactional", lane="transactional", campaign="receipt")
    assert [c.touch_id for c in w.tasks()] == ["t2"]
    w.command("stop.off")
    assert [c.touch_id for c in w.tasks()] == ["t2", TOUCH]


def test_a_call_stopped_before_its_first_byte_is_held() -> None:
    w = World()
    w.send()
    w.command("campaign.pause", campaign="spring")
    w.answer(Verdict.NOT_SENT, reason="stopped")
    w.advance(10_000)
    assert w.state().status == "held" and len(w.tasks()) == 1
    w.command("campaign.resume", campaign="spring")
    assert [c.id for c in w.tasks()] == [f"{TOUCH}:1", f"{TOUCH}:2"]


def test_a_template_may_refuse_a_member() -> None:
    w = World()
    w.template(4, {"email": {"subject": "x", "html": "{% if member.stock == 0 %}{% abort 'sold out' %}{% endif %}"}})
    w.profile(stock=0)
    w.send(template_version=4)
    assert [(d.status, d.reason, d.detail) for d in w.deliveries()] == [("rejected", "template_abort", "sold out")]


def test_a_broken_template_and_a_header_trick_are_refused() -> None:
    w = World()
    w.template(4, {"email": {"subject": "{{ member.evil }}", "html": "x"}})
    w.profile(evil="=?utf-8?q?x=0D=0ABcc=3A_evil=40x.example?=")
    w.send(template_version=4)
    w.template(5, {"sms": {"text": "x"}})
    w.send(touch="t2", template_version=5)
    assert [d.reason for d in w.deliveries()] == ["unsafe_header", "template_error"]


def test_inline_content_needs_no_template() -> None:
    w = World("sms", template=False)
    w.send(template=None, template_version=None, content=msgspec.Raw(b'{"sms":{"text":"At nine."}}'))
    assert w.tasks()[0].message.text == "At nine."


def test_final_sends_go_after_a_week_and_open_ones_stay() -> None:
    w = World()
    w.send()
    w.answer(Verdict.ACCEPTED)
    w.send(touch="open", not_before=iso(NOW + 30 * 86_400_000), send_by=iso(NOW + 31 * 86_400_000))
    w.advance(6 * 86_400_000)
    assert w.state() is not None
    w.advance(3 * 86_400_000)
    assert w.state() is None and w.state("open").status == "queued"


def test_unchanged_members_are_not_written_again() -> None:
    w = World()
    w.contact()
    w.profile()
    assert w.driver.drops["unchanged"] == 2


def test_another_channel_s_sends_and_own_outcomes_are_no_news() -> None:
    w = World()
    w.driver.feed(topics.DELIVERIES, ids.member_key(WS, MEMBER), msgspec.structs.replace(_delivery(), channel="sms"))
    w.driver.feed(topics.DELIVERIES, ids.member_key(WS, MEMBER), _delivery())
    assert w.driver.drops["no_news"] == 2


def test_what_the_channels_wrote_themselves_is_known_by_its_type() -> None:
    """Nearly all of rondo.deliveries.v1: told by a header, without reading the value."""
    w = World("sms")
    key = ids.member_key(WS, MEMBER)
    for status in ("accepted", "rejected", "unknown", "returned", "cancelled"):
        w.driver.feed(topics.DELIVERIES, key, b"unread", headers={"ce_type": f"delivery.{status}"})
    assert w.driver.drops["no_news"] == 5 and not w.driver.dead
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    told = msgspec.structs.replace(w.deliveries()[0], status="delivered")
    w.driver.feed(topics.DELIVERIES, key, told, headers={"ce_type": "delivery.delivered"})
    assert w.statuses() == ["unknown", "accepted"]


def _delivery():  # type: ignore[no-untyped-def]
    w = World()
    w.send()
    w.answer(Verdict.ACCEPTED)
    return w.deliveries()[0]


def test_a_send_of_all_channels_has_its_channel_in_the_touch() -> None:
    w = World()
    touch = f"{TOUCH}:email"
    w.send(touch=touch)
    w.answer(Verdict.ACCEPTED, f"{touch}:1")
    assert w.deliveries()[0].touch_id == touch == send(touch=touch).touch_id
