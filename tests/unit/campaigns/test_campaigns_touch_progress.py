"""The state of one touch and the counts of a run, whatever order reports come in."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.campaigns.model import RunShare, TouchState
from services.campaigns.run_counts import advance, engaged, planned
from services.campaigns.touch_progress import (
    BUCKETS,
    ENGAGEMENT,
    WITH_REASONS,
    WRITTEN,
    Report,
    decided,
    delivered,
    engagement_name,
)


def share() -> RunShare:
    return RunShare("r1", "spring", 1, "broadcast", "expanded", 0)


REASONS = st.sampled_from(["quiet_hours", "budget_exceeded", "campaign_paused"])


@st.composite
def history(draw: st.DrawFn) -> list[Report]:
    """What really happens to a touch: deferrals, then a send and its delivery, a return begins anew."""
    reports: list[Report] = []
    for attempt in range(1, draw(st.integers(0, 4)) + 1):
        match draw(st.sampled_from(["defer", "returned", "lost", "skip", "send", "end"])):
            case "defer":
                reports.append(decided(attempt, "defer", draw(REASONS)))
            case "skip":
                return [*reports, decided(attempt, "skip", draw(st.sampled_from(["expired", "consent_denied"])))]
            case "returned":
                reports += [decided(attempt, "send", None), delivered(attempt, "returned", None, False)]
            case "lost":
                reports += [
                    decided(attempt, "send", None),
                    delivered(attempt, "unknown", "worker_lost", False),
                    delivered(attempt, "returned", None, True),
                ]
            case "send":
                return [*reports, decided(attempt, "send", None)]
            case "end":
                reports.append(decided(attempt, "send", None))
                if draw(st.booleans()):
                    reports.append(delivered(attempt, "unknown", "timeout", False))
                status = draw(st.sampled_from(["accepted", "rejected", "cancelled", None]))
                if status:
                    reports.append(delivered(attempt, status, "hard_bounce", True))
                return reports
    return reports


@given(st.lists(history(), min_size=1, max_size=4), st.integers(0, 2**32), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_any_order_and_repeats_end_the_same(histories: list[list[Report]], seed: int, times: int) -> None:
    reports = [(i, r) for i, h in enumerate(histories) for r in h] * times
    random.Random(seed).shuffle(reports)
    run = planned(share(), len(histories), 0)
    touches = {i: TouchState("r1") for i in range(len(histories))}
    for i, report in reports:
        moved = advance(run, touches[i], report, 5)
        if moved is not None:
            run, touches[i] = moved
        assert sum(run.counts.values()) == run.touches == len(histories)
        assert all(n > 0 for n in run.counts.values())
        for bucket in WITH_REASONS:
            assert sum(run.reasons.get(bucket, {}).values()) == run.counts.get(bucket, 0)
    # the truth: what happened last
    last = [h[-1] if h else WRITTEN for h in histories]
    assert run.counts == Counter(r.bucket for r in last)
    for bucket in WITH_REASONS:
        assert run.reasons.get(bucket, {}) == Counter(r.reason for r in last if r.bucket == bucket)


@given(st.lists(st.sampled_from([*ENGAGEMENT, "deferred", "preferences"]), max_size=20))
@settings(max_examples=50, deadline=None)
def test_engagement_counts_once_a_touch(names: list[str]) -> None:
    run, touch = share(), TouchState("r1")
    for name in names:
        moved = engaged(run, touch, name)
        if moved is not None:
            run, touch = moved
    assert run.engagement == dict.fromkeys(set(names) & set(ENGAGEMENT), 1)


def test_every_bucket_can_be_reached() -> None:
    reports = [
        WRITTEN,
        decided(1, "defer", "quiet_hours"),
        decided(1, "send", None),
        decided(1, "skip", "expired"),
        delivered(1, "accepted", None, False),
        delivered(1, "rejected", "hard_bounce", False),
        delivered(1, "unknown", "timeout", False),
    ]
    assert {r.bucket for r in reports if r} == set(BUCKETS)


def test_a_touch_held_by_a_pause_is_queued() -> None:
    assert decided(1, "defer", "campaign_paused").bucket == "queued"


def test_what_the_last_gate_refuses_is_skipped_not_failed() -> None:
    for reason, bucket in (("consent_denied", "skipped"), ("template_abort", "skipped"), ("hard_bounce", "failed")):
        report = delivered(1, "rejected", reason, False)
        assert report is not None and (report.bucket, report.reason) == (bucket, reason)
    assert delivered(1, "rejected", None, False) < delivered(1, "accepted", None, True)


def test_callbacks_are_engagement() -> None:
    assert [delivered(1, s, None, False) for s in ("delivered", "bounced", "complained", "deferred")] == [None] * 4
    assert (
        engagement_name("opened", "machine") == "opened_machine" and engagement_name("clicked", "x") == "clicked_human"
    )
    assert engagement_name("unsubscribed", "human") == "unsubscribed"
