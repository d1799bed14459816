"""The delivery stage, from a call's answer to its recorded outcome: retries, doubts, callbacks, restarts."""

import msgspec

from rondo_common.clock import iso
from services.delivery.members import address_id
from services.delivery.model import Answer, Begin, Check, Forget, Lookup, Verdict
from tests.support.delivery_world import NOW, SECRET, TOUCH, WS, World


def test_later_is_tried_again_by_schedule_and_ends_as_rejected() -> None:
    w = World()
    w.send()
    for wait in (2_000, 10_000):
        w.answer(Verdict.RETRY, reason="soft_bounce")
        assert w.state().status == "retry"
        before = len(w.tasks())
        w.advance(wait * 3 // 4 - 1)
        assert len(w.tasks()) == before
        w.advance(wait // 2 + 1)
        assert len(w.tasks()) == before + 1
    w.answer(Verdict.RETRY, reason="soft_bounce")
    (d,) = w.deliveries()
    assert (d.status, d.reason, d.permanent, w.state().tries) == ("rejected", "soft_bounce", False, 3)


def test_tries_count_on_over_a_return() -> None:
    w = World()
    w.send(send_by=iso(NOW + 1_000))
    w.answer(Verdict.RETRY, reason="soft_bounce")
    w.advance(5_000)
    assert w.statuses() == ["returned"]
    w.send(attempt=2, send_by=iso(NOW + 900_000))
    assert w.tasks()[-1].id == f"{TOUCH}:2"
    w.answer(Verdict.RETRY, reason="soft_bounce")
    assert w.state().tries == 2


def test_retry_after_is_kept() -> None:
    w = World()
    w.send()
    w.answer(Verdict.RETRY, reason="rate_limited", after=60_000)
    w.advance(59_999)
    assert len(w.tasks()) == 1
    w.advance(1)
    assert len(w.tasks()) == 2


def test_not_sent_costs_no_try_and_ends_with_the_window() -> None:
    w = World()
    w.send()
    for _ in range(200):
        if w.statuses():
            break
        w.answer(Verdict.NOT_SENT, reason="connection_failed")
        w.advance(10_000)
    assert w.statuses() == ["returned"] and w.state().tries == 0


def test_a_hard_bounce_names_its_address() -> None:
    w = World()
    w.send()
    w.answer(Verdict.REJECTED, reason="hard_bounce", permanent=True, address_id=w.tasks()[0].address_id)
    (d,) = w.deliveries()
    assert d.permanent and d.address_id == address_id(SECRET, WS, "email", "ann@example.com")


def test_a_stop_right_before_the_call() -> None:
    w = World("sms")
    w.send()
    w.answer(Verdict.BLOCKED, reason="stop")
    assert [(d.status, d.reason, d.permanent) for d in w.deliveries()] == [("rejected", "consent_denied", False)]


def test_unknown_is_said_at_once_and_stays_for_marketing() -> None:
    w = World()
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    assert [(d.status, d.reason, d.settled) for d in w.deliveries()] == [("unknown", "timeout", False)]
    w.advance(3_600_000)
    assert len(w.tasks()) == 1 and w.statuses() == ["unknown"] and w.state().status == "unknown"


def test_a_callback_settles_an_unknown_even_days_later() -> None:
    w = World()
    w.send(data=msgspec.Raw(b'{"code":1}'))
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(5 * 86_400_000)
    w.callback("delivered")
    w.callback("delivered")
    assert [(d.status, d.settled) for d in w.deliveries()] == [("unknown", False), ("accepted", True)]
    assert w.deliveries()[-1].campaign == "spring"


def test_a_callback_that_overtakes_the_answer() -> None:
    w = World()
    w.send()
    w.callback("delivered")
    w.answer(Verdict.UNKNOWN, reason="connection_lost")
    assert w.statuses() == ["accepted"]


def test_transactional_goes_again_after_the_window_of_doubt() -> None:
    w = World()
    w.send(class_="transactional", lane="transactional")
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(299_999)
    assert len(w.tasks()) == 1
    w.advance(1)
    first, again = w.tasks()
    assert (first.touch_id, again.touch_id, again.id) == (TOUCH, TOUCH, f"{TOUCH}:2")
    w.answer(Verdict.ACCEPTED)
    assert [(d.status, d.settled) for d in w.deliveries()] == [("unknown", False), ("accepted", True)]


def test_the_provider_is_asked_and_has_it() -> None:
    w = World("sms")
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(2_000)
    (ask,) = w.tasks(Lookup)
    assert ask.to == "+33612345678"
    w.answer(Verdict.ACCEPTED, f"{TOUCH}:1/ask0", provider_id="SM1")
    assert [(d.status, d.settled, d.provider_id) for d in w.deliveries()][-1] == ("accepted", True, "SM1")
    w.advance(400_000)
    assert len(w.tasks()) == 1 and len(w.tasks(Lookup)) == 1


def test_what_the_provider_missed_twice_goes_again() -> None:
    w = World("sms")
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(2_000)
    w.answer(Verdict.NOT_SENT, f"{TOUCH}:1/ask0")
    assert len(w.tasks()) == 1
    w.advance(8_000)
    w.answer(Verdict.NOT_SENT, f"{TOUCH}:1/ask1")
    w.advance(1_000)
    assert [c.id for c in w.tasks()] == [f"{TOUCH}:1", f"{TOUCH}:2"]
    w.answer(Verdict.ACCEPTED)
    assert [(d.status, d.settled) for d in w.deliveries()] == [("unknown", False), ("accepted", True)]


def test_a_provider_that_can_t_be_asked_now_is_asked_again_later() -> None:
    w = World("sms")
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(2_000)
    w.answer(Verdict.UNKNOWN, f"{TOUCH}:1/ask0", reason="not_askable_now")
    w.advance(8_000)
    assert len(w.tasks(Lookup)) == 2
    w.advance(400_000)
    assert len(w.tasks()) == 1 and w.state().status == "unknown"


def test_a_callback_between_the_look_up_and_the_second_sending() -> None:
    w = World("sms")
    w.send()
    w.answer(Verdict.UNKNOWN, reason="timeout")
    w.advance(2_000)
    w.answer(Verdict.NOT_SENT, f"{TOUCH}:1/ask0")
    w.advance(8_000)
    w.answer(Verdict.NOT_SENT, f"{TOUCH}:1/ask1")
    w.callback("delivered")
    w.advance(60_000)
    assert len(w.tasks()) == 1 and w.statuses() == ["unknown", "accepted"]


def test_a_late_answer_settles_what_a_restart_called_unknown() -> None:
    w = World()
    w.send()
    w.driver.assigned(0)
    w.answer(Verdict.UNKNOWN, f"{TOUCH}:1/check", reason="worker_lost")
    assert w.statuses() == ["unknown"]
    w.answer(Verdict.ACCEPTED, f"{TOUCH}:1")
    assert [(d.status, d.settled) for d in w.deliveries()] == [("unknown", False), ("accepted", True)]


def test_a_restart_checks_the_calls_left_open_and_only_those() -> None:
    w = World()
    w.send()
    w.send(touch="t2")
    w.answer(Verdict.ACCEPTED, "t2:1")
    w.driver.assigned(0)
    assert w.tasks(Check) == [Check(f"{TOUCH}:1", 1)]
    assert [b.gen for b in w.tasks(Begin)] == [1, 2]
    w.answer(Verdict.NOT_SENT, f"{TOUCH}:1/check", reason="worker_lost")
    w.advance(5_000)
    again = w.tasks()[-1]
    assert (again.id, again.gen) == (f"{TOUCH}:2", 2) and w.statuses() == ["accepted"]


def test_a_restart_with_an_answer_in_the_marks() -> None:
    w = World()
    w.send()
    w.driver.assigned(0)
    w.answer(Verdict.ACCEPTED, f"{TOUCH}:1/check", provider_id="<y>")
    assert w.statuses() == ["accepted"] and w.deliveries()[0].provider_id == "<y>"


def test_begin_tells_the_effector_of_the_stops() -> None:
    w = World()
    w.command("campaign.pause", campaign="spring")
    w.driver.assigned(0)
    assert w.tasks(Begin)[-1].stops == {(WS, "spring"): "paused"}


def test_answers_in_a_burst_say_what_each_says_alone() -> None:
    answers = [
        Answer(Verdict.ACCEPTED, "smtp", "<p0>", address_id="a0"),
        Answer(Verdict.REJECTED, "smtp", reason="hard_bounce", permanent=True),
        Answer(Verdict.ACCEPTED, "smtp", "<p2>"),
        Answer(Verdict.UNKNOWN, "smtp", reason="timeout"),
        Answer(Verdict.RETRY, "smtp", reason="soft_bounce"),
        Answer(Verdict.NOT_SENT, "smtp", reason="stopped"),
        "the effector's own failure",
        Answer(Verdict.ACCEPTED, "smtp", "<p7>"),
    ]
    worlds = World(), World()
    for w in worlds:
        for n in range(len(answers)):
            w.send(touch=f"t{n}")
        w.answer(Verdict.ACCEPTED, "t7:1")  # settled before: the burst's own answer to it comes too late
        w.driver.auto = False
    together, alone = worlds
    ids = [f"t{n}:1" for n in range(len(answers))]
    together.driver.answer_all(list(zip(ids, answers, strict=True)))
    for id, answer in zip(ids, answers, strict=True):
        alone.driver.answer(id, answer)
    assert together.deliveries() == alone.deliveries() and len(together.deliveries()) == 6
    assert together.driver.states() == alone.driver.states()
    assert together.driver.timers() == alone.driver.timers()
    forgotten = [{c for f in w.tasks(Forget) for c in (f.call, *f.more)} for w in worlds]
    assert forgotten[0] == forgotten[1] and len(together.tasks(Forget)) < len(alone.tasks(Forget))
