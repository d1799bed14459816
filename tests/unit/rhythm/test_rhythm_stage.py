"""The stage: agenda, budgets over several touches, holds, deliveries, commands."""

import itertools

import msgspec
import pytest

from rondo_common import topics
from rondo_common.clock import from_iso, iso
from rondo_common.records import Decision
from tests.support.rhythm_samples import DAY, HOUR, Gate, budget, definition, night, touch

NOON = from_iso("2026-12-01T12:00:00Z")
NIGHT = from_iso("2026-12-01T23:10:00Z")


def test_a_touch_is_sent_and_final():
    gate = Gate(NOON)
    gate.touch(touch(template="spring", template_version=3))
    (decision,), (send,) = gate.decisions(), gate.sends()
    assert (decision.verdict, decision.attempt, decision.decided_at) == ("send", 1, iso(NOON))
    assert (send.decision_id, send.attempt, send.channel) == (decision.decision_id, 1, "email")
    assert (send.not_before, send.send_by) == (iso(NOON), iso(NOON + 300_000))
    assert (send.template, send.template_version) == ("spring", 3)
    gate.delivery("accepted", at=NOON + 50)
    state = gate.member()
    assert state.agenda == ()
    assert [(e.touch_id, e.at) for e in state.ledger] == [("t1", NOON)], "the clock here has not got there yet"
    assert gate.driver.timers() == {}


def test_the_send_goes_to_channel_and_lane():
    gate = Gate(NOON)
    gate.touch(touch("a", channels=["sms"]))
    gate.touch(touch("b", class_="transactional", lane="transactional"))
    assert {e.topic for e in gate.driver.emitted()} == {
        topics.DECISIONS,
        topics.sends("sms", "bulk"),
        topics.sends("email", "transactional"),
    }


def test_decisions_are_canonical():
    gate = Gate(NOON)
    gate.touch(touch())
    raw = gate.driver.emitted(topics.DECISIONS)[0].data
    assert raw == msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    assert {"attempt", "campaign", "channel", "decided_at", "decision_id", "gates", "member_id", "reason", "run_id"} | {
        "step",
        "touch_id",
        "until",
        "verdict",
        "version",
    } <= set(msgspec.json.decode(raw))


def test_parked_until_decide_at():
    gate = Gate(NOON)
    gate.touch(touch(decide_at=iso(NOON + HOUR)))
    assert gate.decisions() == []
    assert gate.driver.timers("m:demo:m1") == {"m:demo:m1": {"agenda": NOON + HOUR}}
    assert gate.marks() == ["w:demo:spring:m1"]
    gate.driver.advance(NOON + HOUR - 1)
    assert gate.decisions() == []
    gate.driver.advance(NOON + HOUR)
    assert gate.verdicts() == [("t1", "send", None)]
    assert gate.marks() == []


def test_deferred_and_decided_anew_at_until():
    gate = Gate(NIGHT, night())
    gate.touch(touch())
    (d,) = gate.decisions()
    assert (d.verdict, d.reason, d.until) == ("defer", "quiet_hours", "2026-12-02T08:00:00Z")
    gate.driver.advance(from_iso("2026-12-02T08:00:00Z"))
    (d,) = gate.decisions()
    assert (d.verdict, d.attempt) == ("send", 2)
    assert len(gate.sends()) == 1


def test_a_budget_counts_transactional_and_frees_after_its_time():
    gate = Gate(NOON, budget(limit=1, per="P1D"))
    gate.touch(touch("receipt", class_="transactional", lane="transactional"))
    gate.touch(touch("offer"))
    assert gate.verdicts() == [("receipt", "send", None), ("offer", "defer", "budget_exceeded")]
    gate.driver.advance(NOON + DAY)
    assert gate.verdicts() == [("offer", "send", None)]


@pytest.mark.parametrize("arrival", list(itertools.permutations(range(4))))
def test_touches_with_one_decide_at_don_t_depend_on_their_order(arrival):
    at = iso(NOON + HOUR)
    some = [
        touch("z", priority=10, decide_at=at),
        touch("y", priority=90, value=1.0, decide_at=at),
        touch("x", priority=90, value=5.0, decide_at=at, not_after=iso(NOON + 9 * DAY)),
        touch("w", priority=90, value=5.0, decide_at=at, not_after=iso(NOON + 9 * DAY - 500)),
    ]
    gate = Gate(NOON, budget(limit=2, per="P1D", min_gap="PT0S"))
    for i in arrival:
        gate.touch(some[i])
    gate.driver.advance(NOON + HOUR)
    assert gate.verdicts() == [
        ("w", "send", None),
        ("x", "send", None),
        ("y", "defer", "budget_exceeded"),
        ("z", "defer", "budget_exceeded"),
    ]
    gate.driver.advance(NOON + HOUR + DAY)
    assert gate.verdicts() == [("y", "send", None), ("z", "send", None)]


class TestDeliveries:
    @pytest.mark.parametrize("status", ["rejected", "cancelled"])
    def test_refund(self, status):
        gate = Gate(NOON, budget(limit=1))
        gate.touch(touch("a"))
        gate.delivery(status, "a")
        gate.touch(touch("b"))
        assert [v for v in gate.verdicts() if v[0] == "b"] == [("b", "send", None)]
        assert [s.touch_id for s in gate.member().agenda] == ["b"]

    def test_unknown_counts_as_sent(self):
        gate = Gate(NOON, budget(limit=1))
        gate.touch(touch("a"))
        gate.delivery("unknown", "a")
        assert gate.member().agenda == ()
        gate.touch(touch("b"))
        assert gate.verdicts()[-1] == ("b", "defer", "budget_exceeded")

    def test_an_unknown_that_settles_as_rejected_is_refunded(self):
        gate = Gate(NOON, budget(limit=1))
        gate.touch(touch("a"))
        gate.delivery("unknown", "a")
        gate.delivery("rejected", "a")
        assert gate.member().ledger == ()

    def test_returned_is_decided_again(self):
        gate = Gate(NOON, budget(limit=1))
        gate.touch(touch())
        gate.driver.advance(NOON + 400_000)
        gate.delivery("returned")
        first, second = gate.decisions()
        assert (second.attempt, second.verdict, second.decided_at) == (2, "send", iso(NOON + 400_000))
        assert first.decision_id != second.decision_id
        assert [(s.attempt, s.send_by) for s in gate.sends()][-1] == (2, iso(NOON + 700_000))
        assert [e.at for e in gate.member().ledger] == [NOON + 400_000], "given back, then taken anew"
        gate.delivery("returned", attempt=1)
        assert gate.decisions() == [], "an old attempt's word changes nothing"
        assert gate.driver.drops["old_attempt"] == 1
        gate.delivery("accepted", attempt=2)
        assert gate.member().agenda == ()

    def test_returned_into_quiet_hours(self):
        gate = Gate(from_iso("2026-12-01T20:59:00Z"), night())
        gate.touch(touch())
        assert gate.sends()[0].send_by == "2026-12-01T20:59:59.999Z"
        gate.driver.advance(from_iso("2026-12-01T21:00:00Z"))
        gate.delivery("returned")
        assert gate.verdicts()[-1] == ("t1", "defer", "quiet_hours")
        assert gate.member().ledger == ()

    def test_accepted_corrects_the_time(self):
        gate = Gate(NOON, budget(limit=1, per="P1D"))
        gate.touch(touch("a"))
        gate.driver.advance(NOON + 60_000)
        gate.delivery("accepted", "a", at=NOON + 45_000)
        gate.touch(touch("b"))
        assert gate.decisions()[-1].until == iso(NOON + 45_000 + DAY)

    @pytest.mark.parametrize("status", ["delivered", "bounced", "complained", "deferred"])
    def test_callbacks_change_nothing(self, status):
        gate = Gate(NOON)
        gate.touch(touch())
        before = gate.member()
        gate.delivery(status)
        assert gate.member() == before
        assert gate.driver.drops["not_mine"] == 1

    def test_a_repeated_touch_is_known(self):
        gate = Gate(NOON)
        gate.touch(touch())
        gate.touch(touch())
        gate.delivery("accepted")
        gate.touch(touch())
        assert len(gate.decisions()) == 1
        assert gate.driver.drops["known_touch"] == 2


class TestDialogue:
    def test_held_until_closed(self):
        gate = Gate(NOON)
        gate.community("opened", 1)
        gate.touch(touch())
        gate.touch(touch("re", class_="transactional", lane="transactional"))
        (held, answer) = gate.decisions()
        assert (held.verdict, held.reason, held.until) == ("defer", "open_dialogue", None)
        assert answer.verdict == "send"
        gate.driver.advance(NOON + 30 * DAY)
        assert gate.decisions() == []
        gate.community("closed", 2)
        assert gate.verdicts() == [("t1", "send", None)]

    def test_repeats_and_old_news(self):
        gate = Gate(NOON)
        gate.community("opened", 1)
        gate.community("closed", 3)
        gate.community("opened", 1)
        gate.community("message", 4)
        gate.touch(touch())
        assert gate.verdicts() == [("t1", "send", None)]

    def test_the_last_of_two_conversations(self):
        gate = Gate(NOON)
        gate.community("opened", 1)
        gate.community("opened", 1, "c2")
        gate.touch(touch())
        gate.community("closed", 2)
        assert gate.verdicts() == [("t1", "defer", "open_dialogue")]
        gate.community("closed", 2, "c2")
        assert gate.verdicts() == [("t1", "send", None)]

    def test_expires_while_held(self):
        gate = Gate(NOON)
        gate.community("opened", 1)
        gate.touch(touch(not_after=iso(NOON + DAY)))
        gate.driver.advance(NOON + DAY)
        assert gate.verdicts() == [("t1", "defer", "open_dialogue")]
        gate.driver.advance(NOON + DAY + 1)
        assert gate.verdicts() == [("t1", "skip", "expired")]
        assert gate.marks() == []
        assert gate.driver.timers() == {}


class TestCommands:
    def test_pause_and_resume(self):
        gate = Gate(NOON)
        gate.command("campaign.pause", campaign="spring")
        gate.touch(touch("a"))
        gate.touch(touch("b", campaign="other"))
        assert gate.verdicts() == [("a", "defer", "campaign_paused"), ("b", "send", None)]
        gate.command("campaign.resume", campaign="spring")
        assert gate.verdicts() == [("a", "send", None)]
        assert gate.marks() == []

    def test_parked_touches_meet_the_pause_at_their_time(self):
        gate = Gate(NOON)
        gate.touch(touch(decide_at=iso(NOON + HOUR)))
        gate.command("campaign.pause", campaign="spring")
        assert gate.decisions() == []
        gate.driver.advance(NOON + HOUR)
        assert gate.verdicts() == [("t1", "defer", "campaign_paused")]

    def test_resume_leaves_what_waits_for_something_else(self):
        gate = Gate(NIGHT, night())
        gate.touch(touch())
        gate.command("campaign.pause", campaign="spring")
        gate.command("campaign.resume", campaign="spring")
        assert gate.verdicts() == [("t1", "defer", "quiet_hours")]

    def test_cancel_skips_all_that_waits(self):
        gate = Gate(NIGHT, night())
        gate.touch(touch("deferred"))
        gate.touch(touch("parked", decide_at=iso(NIGHT + DAY)))
        gate.touch(touch("other", campaign="other"))
        gate.command("campaign.pause", campaign="spring")
        gate.touch(touch("paused"))
        gate.driver.take()
        gate.command("campaign.cancel", campaign="spring")
        assert sorted(gate.verdicts()) == [
            (id, "skip", "campaign_cancelled") for id in ("deferred", "parked", "paused")
        ]
        assert [s.touch_id for s in gate.member().agenda] == ["other"]
        gate.touch(touch("late"))
        assert gate.verdicts() == [("late", "skip", "campaign_cancelled")]

    def test_a_new_run_after_a_cancel_is_let_through(self):
        gate = Gate(NOON)
        gate.command("campaign.cancel", campaign="spring")
        gate.command("run.start", campaign="spring", run_id="r2", version=2)
        gate.touch(touch(run_id="r2"))
        assert gate.verdicts() == [("t1", "send", None)]

    def test_a_cancel_means_what_came_before_it_even_at_one_instant(self):
        gate = Gate(NIGHT, night())
        gate.touch(touch("old"))
        gate.driver.auto = False  # the sweep has not begun when the next run's touch comes
        gate.command("campaign.cancel", campaign="spring")
        gate.command("run.start", campaign="spring", run_id="r2", version=2)
        gate.touch(touch("new", run_id="r2"))
        gate.driver.settle()
        assert [s.touch_id for s in gate.member().agenda] == ["new"]
        assert ("old", "skip", "campaign_cancelled") in gate.verdicts()
        assert gate.marks() == ["w:demo:spring:m1"]

    def test_stop_switch(self):
        gate = Gate(NOON)
        gate.command("stop.on")
        gate.touch(touch("a"))
        gate.touch(touch("tx", class_="transactional", lane="transactional"))
        assert gate.verdicts() == [("a", "defer", "campaign_paused"), ("tx", "send", None)]
        gate.command("stop.off")
        assert gate.verdicts() == [("a", "send", None)]

    def test_a_newer_version_of_a_policy_counts_and_an_older_one_does_not(self):
        gate = Gate(NIGHT, night())
        gate.command("definition.activated", definition=definition("quiet_hours", "night", 2, deleted=True))
        old = night()
        gate.command("definition.activated", definition=old)
        gate.touch(touch())
        assert gate.verdicts() == [("t1", "send", None)]

    def test_what_is_not_ours(self):
        gate = Gate(NOON)
        gate.command("trigger", member_id="m1", run_id="r1")
        gate.touch(touch("", kind="end"))
        assert gate.driver.drops["not_mine"] == 8 + 1


def test_a_let_through_touch_without_an_answer_is_forgotten_after_a_week():
    gate = Gate(NOON)
    gate.touch(touch("a"))
    gate.driver.advance(NOON + 8 * DAY)
    gate.touch(touch("b"))
    assert [s.touch_id for s in gate.member().agenda] == ["b"]


def test_but_not_while_its_campaign_is_paused():
    gate = Gate(NOON)
    gate.touch(touch("a"))
    gate.command("campaign.pause", campaign="spring")
    gate.driver.advance(NOON + 20 * DAY)
    gate.touch(touch("b", campaign="other"))
    gate.command("campaign.resume", campaign="spring")
    gate.delivery("returned", "a")
    assert gate.verdicts() == [("a", "send", None), ("b", "send", None), ("a", "send", None)]


def test_the_ledger_ends_after_the_longest_window():
    gate = Gate(NOON, budget(limit=9, per="P60D"))
    gate.touch(touch("a"))
    gate.driver.advance(NOON + 50 * DAY)
    gate.touch(touch("b"))
    assert [e.touch_id for e in gate.member().ledger] == ["a", "b"]
    gate.driver.advance(NOON + 61 * DAY)
    gate.touch(touch("c"))
    assert [e.touch_id for e in gate.member().ledger] == ["b", "c"]


def test_what_can_not_be_read_is_a_dead_letter():
    gate = Gate(NOON)
    gate.touch(touch(channels=[]))
    gate.driver.feed(topics.touches("bulk"), "demo:m1", b"{}")
    gate.driver.feed(topics.touches("bulk"), "demo:m1", None)
    assert [d.reason for d in gate.driver.dead] == ["unreadable"] * 3


def test_decisions_decode_as_their_record():
    gate = Gate(NOON)
    gate.touch(touch())
    d = gate.driver.emitted(topics.DECISIONS)[0]
    assert (d.id, d.subject, d.key) == (d.decode(Decision).decision_id, "m1", "demo:m1")


def test_a_relaxed_policy_lets_go_what_it_held():
    gate = Gate(NIGHT, night("21:00", "08:00"), budget(limit=1))
    gate.touch(touch("a", priority=10, campaign="autumn"))
    gate.touch(touch("b", priority=90, campaign="winter"))
    assert [v for _, v, _ in gate.verdicts()] == ["defer", "defer"]
    gate.command("definition.activated", definition=night("21:00", "23:00"))
    assert gate.verdicts() == [], "the same version says nothing"
    relaxed = msgspec.structs.replace(night("21:00", "23:00"), version=2)
    gate.command("definition.activated", definition=relaxed)
    assert gate.verdicts() == [("b", "send", None), ("a", "defer", "budget_exceeded")], "by priority, over campaigns"
    gate.command("definition.activated", definition=msgspec.structs.replace(budget(limit=2), version=2))
    assert gate.verdicts() == [("a", "send", None)]
    assert gate.marks() == [] and gate.driver.timers() == {}


def test_a_changed_policy_that_changes_nothing_for_a_touch_is_silent():
    gate = Gate(NIGHT, night("21:00", "08:00"))
    gate.touch(touch())
    gate.decisions()
    longer = msgspec.structs.replace(night("20:00", "08:00"), version=2)
    gate.command("definition.activated", definition=longer)
    assert gate.decisions() == []
    deleted = definition("quiet_hours", "night", 3, deleted=True)
    gate.command("definition.activated", definition=deleted)
    assert [d.verdict for d in gate.decisions()] == ["send"]
