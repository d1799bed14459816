"""The whole chain, event to membership, at a growing rate with everything running.

The shop of `tests.bench.shop` posts batches of 100 over HTTP; six segments are defined. The offered rate
grows until the lag of profiles, segmentation, campaigns, egress or insights does. The figure is the
highest rate at which it stayed flat for the whole window, load generator and all on the same cores.
"""

import time
from typing import NamedTuple

from rondo_common import kafka, lag
from tests.bench import shop
from tests.bench.baselines import bare_chain
from tests.bench.frame import Figure, Usage, World, per_record, per_second, total, transactions
from tests.support.spine_api import Api
from tests.support.stack import Stack

NAME = "chain"
TITLE = "event to profile to segment to membership, everything running"
GOAL = 5_000
STAGES = ("profiles", "segmentation", "campaigns", "egress", "insights")
MEMBERS = 8_000
GROWTH = 1.25
BEHIND_S = 0.7
"""A lag of less than what comes in in this time is no lag: stages commit and are asked now and then."""
ROUNDS_S = {"insights": 4.0}
"""The same for one that reads in rounds, up to 3 s apart (services/insights/feed.py)."""
ASKED_S = 0.5


class Window(NamedTuple):
    """What was seen at one pace. `grew` is the largest growth of a stage's lag, as a share of the rate."""

    rate: float
    posted: float
    flat: bool
    worst: str
    grew: float
    cpu: dict[str, float]
    events: int
    details: dict[str, float | str]


class Line:
    """A stack with segments and members, and a paced shop."""

    def __init__(self, stack: Stack, members: int):
        self.stack = stack
        self._admin = kafka.admin(stack.kafka, "bench-lag")
        self._commits = kafka.Commits(stack.kafka, "bench-lag")
        self._shop = shop.Shop(members)
        with Api(stack) as api:
            for name, rule in shop.SEGMENTS.items():
                api.put(f"/v1/segments/{name}", {"name": name, "rule": rule})

    def fill(self) -> float:
        """Let every member arrive, as fast as the door takes them, and wait until that is done: events/s."""
        batches = iter(self._shop.arrivals())
        began = time.monotonic()
        shop.Poster(self.stack.http("ingestion"), self.stack.write_key, lambda: next(batches, None), 1).start(
            None
        ).wait()
        self.stack.drain(120)
        return self._shop.members / (time.monotonic() - began)

    def poster(self) -> shop.Poster:
        return shop.Poster(self.stack.http("ingestion"), self.stack.write_key, self._shop.batch)

    def behind(self) -> dict[str, int]:
        """Records behind by stage, commit markers among them."""
        found = lag.backlog(self._admin, self._commits, list(STAGES))
        return {stage: sum(b.behind for b in found.get(stage, {}).values()) for stage in STAGES}

    def window(self, poster: shop.Poster, rate: float, seconds: float) -> Window:
        """Post at `rate`; the first third is for getting used to it, the rest is looked at."""
        poster.pace(rate)
        time.sleep(seconds / 3)
        posted, before, made, written = poster.posted, Usage.of(self.stack), transactions(self.stack), self._emitted()
        first, last, took = self._least_behind(seconds * 2 / 3)
        after = Usage.of(self.stack)
        events, wall = poster.posted - posted, after.at - before.at
        made, written = transactions(self.stack) - made, self._emitted() - written
        growth = {s: (last[s] - first[s]) / took for s in STAGES}
        worst = max(STAGES, key=lambda s: last[s] - first[s])
        small = all(last[s] < ROUNDS_S.get(s, BEHIND_S) * rate * 2 for s in STAGES)
        flat = (small or growth[worst] < 0.03 * rate) and events / wall > 0.95 * rate
        spent = after - before
        details: dict[str, float | str] = {
            **per_record(spent, max(1, events), 3.0),
            "CPU µs all": round(sum(spent.values()) / max(1, events) * 1e6, 1),
            "cores busy": round(sum(spent.values()) / wall, 2),
            **per_second(made, wall),
            "records out/event": round(written / max(1, events), 2),
        }
        return Window(rate, events / wall, flat, worst, growth[worst] / rate, spent, events, details)

    def _least_behind(self, seconds: float) -> tuple[dict[str, int], dict[str, int], float]:
        """The least lag by stage in the first and in the second half of `seconds`, and how far the halves are
        apart: a lag goes up and down with each batch, and its foot tells whether it grows."""
        began = time.monotonic()
        halves: tuple[list[dict[str, int]], list[dict[str, int]]] = ([], [])
        while (past := time.monotonic() - began) < seconds or not halves[1]:
            halves[past >= seconds / 2].append(self.behind())
            time.sleep(ASKED_S)
        first, last = ({s: min(b[s] for b in half) for s in STAGES} for half in halves)
        return first, last, seconds / 2

    def _emitted(self) -> float:
        return total(self.stack, "rondo_stream_emitted_total")

    def settle(self, poster: shop.Poster, timeout_s: float = 90.0) -> None:
        """Pause until the stages have caught up: a backlog left would be counted against the next rate."""
        poster.pace(0)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and sum(self.behind().values()) > 1_000:
            time.sleep(0.2)


def highest(
    line: Line, poster: shop.Poster, first: float, seconds: float, most: int
) -> tuple[Window | None, list[Window]]:
    """Grow the rate until the lag grows, then try once between; the best flat window and all of them."""
    seen: list[Window] = []
    good: Window | None = None
    rate = first
    while len(seen) < most:
        found = line.window(poster, rate, seconds)
        seen.append(found)
        if found.flat:
            good = found
            rate *= GROWTH
            continue
        line.settle(poster)
        if good is not None or len(seen) + 1 >= most:
            break
        rate /= GROWTH**2
    if good is not None and not seen[-1].flat and len(seen) < most:
        between = line.window(poster, (good.rate * seen[-1].rate) ** 0.5, seconds)
        seen.append(between)
        good = between if between.flat else good
    return good, seen


def run(world: World) -> list[Figure]:
    seconds = 4.5 if world.quick else 12.0
    with world.stack() as stack:
        line = Line(stack, world.size(MEMBERS, 500))
        line.fill()
        poster = line.poster().start(1_500)
        try:
            time.sleep(world.size(4, 1))
            good, seen = highest(line, poster, 2_000, seconds, world.size(8, 2))
        finally:
            poster.stop()
    bare = bare_chain.throughput(world.folder, world.size(100_000, 10_000))
    best = good or min(seen, key=lambda w: w.rate)
    lost = next((w for w in seen if not w.flat and w.rate > best.rate), None)
    details = dict(best.details)
    if lost is not None:
        details["fell behind"] = f"{lost.worst} at {lost.rate:,.0f}/s"
    if good is None:
        details["not flat"] = f"{best.worst} by {best.grew:.0%} of the rate"
    return [
        Figure(
            "sustained, lag flat",
            round(best.posted) if good is not None else 0.0,
            "events/s",
            baseline=bare.rate,
            baseline_name="bare chain of three hops",
            goal=GOAL,
            details={**details, "CPU µs bare, all": bare.cpu_us, "CPU µs bare broker": bare.broker_us},
        )
    ]
