"""decide: each gate, their order, the channel, and `until` against a scan over every minute."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.clock import from_iso, iso
from services.rhythm.decide import decide
from services.rhythm.gates import GATES
from services.rhythm.model import Consent, Member, Spent
from services.rhythm.policies import NO_POLICIES
from tests.support.rhythm_samples import DAY, EVERY_DAY, HOUR, budget, definition, member, night, policies, touch

NOON = from_iso("2026-12-01T12:00:00Z")
NIGHT = from_iso("2026-12-01T22:10:00Z")


def verdict_of(t=None, m=None, p=NO_POLICIES, stop=None, now=NOON):
    return decide(t or touch(), m or member(), p, stop, now)


def test_a_send_lists_every_gate_in_order():
    v = verdict_of()
    assert (v.verdict, v.channel, v.reason, v.until) == ("send", "email", None, None)
    assert tuple(g.gate for g in v.gates) == GATES
    assert {g.verdict for g in v.gates} == {"pass"}
    assert v.send_by == NOON + 300_000


SOCIAL = (Consent("social", "*", "granted", "x"),)
SKIPS = [
    ("erased", {"erased": True}, {}, None, "erased"),
    ("suppressed", {"suppressed": {"email": "bounce"}}, {"channels": ["email"]}, None, "suppressed_bounce"),
    ("suppressed", {"suppressed": {"email": "complaint"}}, {"channels": ["email"]}, None, "suppressed_complaint"),
    ("suppressed", {"suppressed": {"*": "manual"}}, {}, None, "suppressed_manual"),
    ("consent", {"consents": ()}, {}, None, "consent_missing"),
    ("consent", {"consents": (Consent("email", "*", "denied", "x"),)}, {"channels": ["email"]}, None, "consent_denied"),
    ("stopped", {}, {}, "cancelled", "campaign_cancelled"),
    ("expiry", {}, {"not_after": iso(NOON - 1)}, None, "expired"),
    ("reachable", {"reachable": ("sms",)}, {"channels": ["email"]}, None, "no_address"),
    ("reachable", {"consents": SOCIAL}, {"channels": ["social"]}, None, "channel_unusable"),
    ("audience", {"merged_into": "m2"}, {}, None, "merged"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "of_member", "of_touch", "stop", "reason"), SKIPS)
def test_skips(gate, of_member, of_touch, stop, reason):
    v = verdict_of(touch(**of_touch), member(**of_member), stop=stop)
    assert (v.verdict, v.reason) == ("skip", reason)
    assert v.gates[-1].gate == gate, "listed up to and including the first skip"
    assert tuple(g.gate for g in v.gates) == GATES[: GATES.index(gate) + 1]
    assert v.gates[-1].verdict == "skip"
    assert v.gates[-1].reason == reason


def test_expiry_is_exact():
    assert verdict_of(touch(not_after=iso(NOON))).verdict == "send"
    assert verdict_of(touch(not_after=iso(NOON))).send_by == NOON


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], "consent_missing"),
        ([("email", "offers", "granted")], None),
        ([("email", "*", "granted")], None),
        ([("email", "*", "denied"), ("email", "offers", "granted")], "consent_denied"),
        ([("email", "*", "granted"), ("email", "offers", "denied")], "consent_denied"),
        ([("email", "news", "granted")], "consent_missing"),
        ([("sms", "offers", "granted")], "consent_missing"),
    ],
)
def test_consent(entries, expected):
    consents = tuple(Consent(c, t, s, f"e{i}") for i, (c, t, s) in enumerate(entries))
    assert verdict_of(touch(channels=["email"]), member(consents=consents)).reason == expected
    assert verdict_of(touch(channels=["email"], class_="transactional"), member(consents=consents)).verdict == "send"


def test_passed_consent_names_its_event():
    consent = next(g for g in verdict_of().gates if g.gate == "consent")
    assert consent.inputs == {"event_id": "g-email", "state": "granted"}


class TestChannel:
    def test_first_listed_that_can_be_used(self):
        assert verdict_of(touch(channels=["sms", "email"])).channel == "sms"
        assert verdict_of(m=member(reachable=("sms",))).channel == "sms"
        assert verdict_of(m=member(suppressed={"email": "bounce"})).channel == "sms"
        assert verdict_of(m=member(consents=(Consent("sms", "*", "granted", "e"),))).channel == "sms"

    def test_none_usable_is_the_first_listed_with_its_reason(self):
        v = verdict_of(m=member(reachable=(), suppressed={"sms": "bounce"}))
        assert (v.channel, v.reason) == ("email", "no_address")

    def test_preferred_first_only_under_its_rule(self):
        m = member(preferred="sms")
        assert verdict_of(m=m).channel == "email"
        assert verdict_of(touch(channel_rule="preferred"), m).channel == "sms"
        assert verdict_of(touch(channel_rule="preferred"), member(preferred="messaging")).channel == "email"
        assert verdict_of(touch(channel_rule="preferred"), member(channels=("sms", "email"))).channel == "sms"
        unusable = member(preferred="sms", reachable=())
        assert verdict_of(touch(channel_rule="preferred"), unusable).channel == "email"

    def test_a_hold_of_the_member_does_not_choose_an_unusable_channel(self):
        m = Member(contact=member(reachable=("sms",)).contact, talks={"c1": (True, 1)})
        v = verdict_of(m=m)
        assert (v.verdict, v.reason, v.channel) == ("defer", "open_dialogue", "sms")


class TestHolds:
    def test_pause_of_the_campaign_has_no_until(self):
        v = verdict_of(stop="paused")
        assert (v.verdict, v.reason, v.until) == ("defer", "campaign_paused", None)
        assert tuple(g.gate for g in v.gates) == GATES

    def test_pause_by_the_member(self):
        v = verdict_of(m=member(paused_until=NOON + DAY))
        assert (v.verdict, v.reason, v.until) == ("defer", "paused_by_member", NOON + DAY)
        assert verdict_of(m=member(paused_until=NOON)).verdict == "send"
        late = verdict_of(touch(not_after=iso(NOON + HOUR)), member(paused_until=NOON + DAY))
        assert (late.verdict, late.reason) == ("skip", "expired")

    def test_quiet_hours_in_the_words_of_the_contract(self):
        rule = definition(
            "quiet_hours", "sms-night", 3, channels=["sms"], timezone=["member", "phone_region", "workspace"],
            windows=[{"days": EVERY_DAY, "from": "21:00", "to": "08:00"}],
        )  # fmt: skip
        v = verdict_of(touch(channels=["sms"]), member(zone="Europe/Paris"), policies(rule), now=NIGHT)
        assert (v.verdict, v.reason, v.until) == ("defer", "quiet_hours", from_iso("2026-12-02T07:00:00Z"))
        gate = next(g for g in v.gates if g.gate == "quiet_hours")
        assert gate.policy == "sms-night@3"
        assert gate.inputs == {"local": "2026-12-01T23:10:00", "zone": "Europe/Paris", "zone_source": "member"}
        assert gate.until == "2026-12-02T07:00:00Z"
        assert (
            verdict_of(touch(channels=["email"]), member(zone="Europe/Paris"), policies(rule), now=NIGHT).verdict
            == "send"
        )

    def test_zones(self):
        rule = policies(night())
        paris_night = from_iso("2026-12-01T20:30:00Z")
        assert verdict_of(m=member(zone=None, phone="+33612345678"), p=rule, now=paris_night).verdict == "defer"
        assert verdict_of(m=member(zone=None), p=rule, now=paris_night).verdict == "send"
        assert verdict_of(m=member(zone="UTC", phone="+33612345678"), p=rule, now=paris_night).verdict == "send"
        # a number that may be anywhere in North America: all of its zones have to allow
        anywhere = member(zone=None, phone="+18005550000")
        assert verdict_of(m=anywhere, p=rule, now=from_iso("2026-12-01T14:00:00Z")).verdict == "defer"
        assert (
            verdict_of(m=member(zone=None, phone="+14155550000"), p=rule, now=from_iso("2026-12-01T17:00:00Z")).verdict
            == "send"
        )

    def test_a_members_own_quiet_hours(self):
        v = verdict_of(m=member(quiet=("11:00", "13:00")))
        assert (v.verdict, v.reason, v.until) == ("defer", "quiet_hours", NOON + HOUR)
        assert next(g for g in v.gates if g.gate == "quiet_hours").inputs["set_by"] == "member"

    def test_send_by_ends_before_quiet_hours_and_with_the_touch(self):
        at = from_iso("2026-12-01T20:58:00Z")
        assert verdict_of(p=policies(night()), now=at).send_by == at + 120_000 - 1
        assert verdict_of(touch(not_after=iso(at + 60_000)), p=policies(night()), now=at).send_by == at + 60_000
        assert verdict_of(touch(class_="transactional"), p=policies(night()), now=at).send_by == at + 300_000

    def test_transactional_is_never_held(self):
        m = Member(
            contact=member(paused_until=NIGHT + DAY, quiet=("00:00", "23:59"), consents=()).contact,
            ledger=tuple(Spent(f"s{i}", NIGHT - i, "email", "offers") for i in range(9)),
            talks={"c1": (True, 1)},
        )
        rules = policies(night(), budget(limit=1, min_gap="P1D"), budget("hard", limit=0, on_exceed="skip"))
        t = touch(class_="transactional", lane="transactional")
        assert verdict_of(t, m, rules, now=NIGHT).verdict == "send"
        assert verdict_of(t, member(suppressed={"email": "bounce"}), rules).channel == "sms"
        only = touch(class_="transactional", channels=["email"])
        assert verdict_of(only, member(suppressed={"email": "bounce"})).reason == "suppressed_bounce"
        assert verdict_of(only, stop="cancelled").reason == "campaign_cancelled"


class TestBudget:
    def test_weights_channels_and_topics(self):
        rule = policies(budget(limit=3, weights={"sms": 2}))
        one_sms = Spent("a", NOON - HOUR, "sms", "offers")
        assert verdict_of(touch(channels=["email"]), member(one_sms), rule).verdict == "send"
        assert verdict_of(touch(channels=["sms"]), member(one_sms), rule).until == NOON - HOUR + 7 * DAY
        other_topic = policies(budget(limit=1, topics=["news"]))
        assert verdict_of(m=member(Spent("a", NOON, "email", "offers")), p=other_topic).verdict == "send"
        other_channel = policies(budget(limit=1, channels=["sms"]))
        assert verdict_of(m=member(Spent("a", NOON, "sms", "offers")), p=other_channel).verdict == "send"
        assert (
            verdict_of(touch(channels=["sms"]), member(Spent("a", NOON, "sms", "x")), other_channel).verdict == "defer"
        )

    def test_the_window_is_open_at_its_old_end(self):
        rule = policies(budget(limit=1))
        assert verdict_of(m=member(Spent("a", NOON - 7 * DAY, "email", "offers")), p=rule).verdict == "send"
        v = verdict_of(m=member(Spent("a", NOON - 7 * DAY + 1, "email", "offers")), p=rule)
        assert (v.verdict, v.reason, v.until) == ("defer", "budget_exceeded", NOON + 1)
        gate = next(g for g in v.gates if g.gate == "budget")
        assert gate.policy == "weekly@1"
        assert gate.inputs == {"counted": ["a"], "limit": 1, "used": 1, "weight": 1, "per_s": 604800}

    def test_on_exceed_skip_and_a_weight_that_never_fits(self):
        spent = Spent("a", NOON - 1, "email", "offers")
        assert verdict_of(m=member(spent), p=policies(budget(limit=1, on_exceed="skip"))).reason == "budget_exceeded"
        never = verdict_of(p=policies(budget(limit=1, weights={"email": 2})))
        assert (never.verdict, never.reason) == ("skip", "budget_exceeded")

    def test_min_gap(self):
        rule = policies(budget(limit=9, min_gap="PT4H"))
        v = verdict_of(m=member(Spent("a", NOON - HOUR, "email", "offers")), p=rule)
        assert (v.verdict, v.reason, v.until) == ("defer", "min_gap", NOON + 3 * HOUR)
        assert verdict_of(m=member(Spent("a", NOON - 4 * HOUR, "email", "offers")), p=rule).verdict == "send"

    def test_what_can_not_go_in_time_is_expired(self):
        t = touch(not_after=iso(NOON + DAY))
        v = verdict_of(t, member(Spent("a", NOON, "email", "offers")), policies(budget(limit=1)))
        assert (v.verdict, v.reason, v.gates[-1].gate) == ("skip", "expired", "expiry")
        assert v.gates[-1].inputs == {
            "blocked_by": "budget",
            "not_after": iso(NOON + DAY),
            "until": iso(NOON + 7 * DAY),
        }
        just = touch(not_after=iso(NOON + 7 * DAY))
        assert (
            verdict_of(just, member(Spent("a", NOON, "email", "offers")), policies(budget(limit=1))).verdict == "defer"
        )


SPENT = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from(["email", "sms"]), st.sampled_from(["offers", "news"])), max_size=8
)
WINDOWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(EVERY_DAY), min_size=1, max_size=7, unique=True),
        st.integers(0, 23),
        st.integers(0, 23),
    ),
    max_size=2,
)
BUDGETS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(0, 8), st.sampled_from(["*", "offers", "news"])),
    max_size=2,
)


@settings(max_examples=120, deadline=None)
@given(
    spent=SPENT,
    windows=WINDOWS,
    budgets=BUDGETS,
    pause=st.integers(-600, 1500),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]),
    day=st.sampled_from(["2026-12-01", "2026-10-25", "2027-03-28", "2026-11-01", "2026-10-04"]),
    hour=st.integers(0, 23),
)
def test_until_is_the_earliest_minute_at_which_all_gates_pass(spent, windows, budgets, pause, zone, day, hour):
    """All inputs lie on whole minutes, so scanning the minutes with decide itself, one by one, must find
    the first send exactly at `until`."""
    now = from_iso(f"{day}T{hour:02d}:00:00Z")
    ledger = tuple(Spent(f"s{i}", now - m * 60_000, c, t) for i, (m, c, t) in enumerate(spent))
    rules = [
        definition("quiet_hours", f"q{i}", windows=[{"days": d, "from": f"{a:02d}:00", "to": f"{b:02d}:00"}])
        for i, (d, a, b) in enumerate(windows)
        if a != b
    ]
    rules += [
        budget(f"b{i}", limit=limit, per=f"PT{per}H", topics=[topic], weights={"sms": 2}, **({"min_gap": f"PT{gap}H"}))
        for i, (limit, per, gap, topic) in enumerate(budgets)
    ]
    m = member(*ledger, zone=zone, paused_until=now + pause * 60_000)
    p = policies(*rules)
    v = decide(touch(), m, p, None, now)
    if v.verdict == "skip":  # the windows together cover the week
        assert v.reason == "quiet_hours"
        alone = policies(*(r for r in rules if r.kind == "quiet_hours"))
        later = range(now, now + 7 * DAY, HOUR)
        assert all(decide(touch(), member(zone=zone), alone, None, t).verdict == "skip" for t in later)
        return
    if v.verdict == "send":
        return
    assert v.until is not None
    assert v.until > now
    assert decide(touch(), m, p, None, v.until).verdict == "send"
    steps = range(now, v.until, 60_000)
    tried = steps if len(steps) <= 400 else [*random.Random(1).sample(steps, 300), *steps[-60:], v.until - 60_000]
    assert all(decide(touch(), m, p, None, t).verdict == "defer" for t in tried)
    assert decide(touch(), m, p, None, v.until - 1).verdict == "defer"


@settings(max_examples=200, deadline=None)
@given(spent=SPENT, limit=st.integers(2, 5), per=st.integers(1, 60), channel=st.sampled_from(["email", "sms"]))
def test_budget_against_a_plain_count(spent, limit, per, channel):
    ledger = tuple(Spent(f"s{i}", NOON - m * 60_000, c, t) for i, (m, c, t) in enumerate(spent))
    rule = policies(budget(limit=limit, per=f"PT{per}H", weights={"sms": 2, "email": 1}, topics=["offers"]))
    weight = {"sms": 2, "email": 1}

    def fits(t: int) -> bool:
        window = [e for e in ledger if t - per * HOUR < e.at <= t and e.topic == "offers"]
        return sum(weight[e.channel] for e in window) + weight[channel] <= limit

    v = decide(touch(channels=[channel]), member(*ledger), rule, None, NOON)
    assert (v.verdict == "send") == fits(NOON)
    if v.verdict == "defer":
        assert fits(v.until)
        assert not fits(v.until - 1)
        assert v.until == min(t for e in ledger if (t := e.at + per * HOUR) > NOON and fits(t))
