"""Counts of a broadcast over the whole stage: decisions and deliveries come on two topics, each in its own
order, read in any order between them."""

from collections import Counter, defaultdict
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.campaigns_world import BROADCAST, World, member


class Step(NamedTuple):
    """One report about the n-th touch, and where the touch then is."""

    n: int
    what: str
    attempt: int
    reason: str | None
    settled: bool
    bucket: str


def _step(n: int, what: str, attempt: int, bucket: str, reason: str | None = None, settled: bool = False) -> Step:
    return Step(n, what, attempt, reason, settled, bucket)


@st.composite
def lives(draw: st.DrawFn, n: int) -> list[Step]:
    """What happens to a touch: deferrals, sends that come back, at most one end."""
    out: list[Step] = []
    for attempt in range(1, draw(st.integers(0, 3)) + 1):
        match draw(st.sampled_from(["defer", "pause", "skip", "returned", "lost", "open", "end"])):
            case "defer":
                out.append(_step(n, "defer", attempt, "deferred", "quiet_hours"))
            case "pause":
                out.append(_step(n, "defer", attempt, "queued", "campaign_paused"))
            case "skip":
                return [*out, _step(n, "skip", attempt, "skipped", "expired")]
            case "returned":
                out += [_step(n, "send", attempt, "queued"), _step(n, "returned", attempt, "queued")]
            case "lost":
                out += [
                    _step(n, "send", attempt, "queued"),
                    _step(n, "unknown", attempt, "unknown", "timeout"),
                    _step(n, "returned", attempt, "queued", None, True),
                ]
            case "open":
                return [*out, _step(n, "send", attempt, "queued")]
            case "end":
                out.append(_step(n, "send", attempt, "queued"))
                doubted = draw(st.booleans())
                if doubted:
                    out.append(_step(n, "unknown", attempt, "unknown", "worker_lost"))
                end = draw(st.sampled_from([("accepted", "sent"), ("rejected", "failed"), ("cancelled", "skipped")]))
                return [*out, _step(n, end[0], attempt, end[1], "hard_bounce", doubted)]
    return out


DECISIONS = ("defer", "skip", "send")


@given(st.integers(1, 3).flatmap(lambda k: st.tuples(*(lives(n) for n in range(k)))), st.randoms(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_whatever_topic_is_read_first_the_counts_are_right(histories, rnd, transactional: bool) -> None:
    world = World(partitions=1)
    world.campaign("spring", {**BROADCAST, "class": "transactional" if transactional else "marketing"})
    world.define("segment", "loyal", {})
    for n in range(len(histories)):
        world.membership(member(n), "loyal")
    world.live("loyal")
    world.start("spring", "r1", segment="loyal")
    touches = {t.member_id: t for t in world.touches()}
    topics: dict[bool, list[Step]] = defaultdict(list)
    for history in histories:
        for step in history:
            topics[step.what in DECISIONS].append(step)
    while any(topics.values()):
        step = topics[rnd.choice([k for k, left in topics.items() if left])].pop(0)
        touch = touches[member(step.n)]
        report = world.decide if step.what in DECISIONS else world.deliver
        report(touch, step.what, step.reason, step.attempt, settled=step.settled)
        assert sum(world.counts("r1").values()) == len(histories)
    assert world.counts("r1") == Counter(h[-1].bucket if h else "pending" for h in histories)
    assert not world.driver.dead


@given(lives(0).filter(lambda h: h and h[-1].bucket in ("sent", "failed", "skipped", "unknown")))
@settings(max_examples=60, deadline=None)
def test_records_that_are_replayed_change_nothing_once_a_touch_has_ended(history) -> None:
    world = World(partitions=1)
    world.campaign("spring", BROADCAST)
    world.define("segment", "loyal", {})
    world.membership(member(0), "loyal")
    world.live("loyal")
    world.start("spring", "r1", segment="loyal")
    (touch,) = world.touches()
    for step in [*history, *history]:
        report = world.decide if step.what in DECISIONS else world.deliver
        report(touch, step.what, step.reason, step.attempt, settled=step.settled)
    assert world.counts("r1") == {history[-1].bucket: 1}
