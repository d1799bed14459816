"""Redis: killed, restarted with and without its data, away for a minute, flushed under live workers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress.cases.provider import settled, start
from tests.stress.cases.workers import AHEAD
from tests.stress.eye import Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.provider.faults import Plan
from tests.stress.registry import Outcome, case
from tests.support.spine_api import Api, until


def _begin(lab: Lab, tag: str, n: int, seconds: float) -> tuple[World, Api, Eye, Load]:
    world = lab.world()
    api = world.space(tag)
    loads.define(api)
    return world, api, Eye(world, api), Load(api, tag, n, lab.seed, rate=n / seconds)


def _live(api: Api, timeout_s: float = 60.0) -> float:
    """Seconds until the views answer again."""
    begun = time.monotonic()
    until(lambda: api.call("GET", f"/v1/segments/{loads.BUYERS}").is_success, "the views", timeout_s, 0.1)
    return time.monotonic() - begun


@case("9", "Redis kill -9 and restart from its append-only file", share=10, least=2_000)
def restarted_full(lab: Lab, n: int) -> Outcome:
    """A pause; what its last second had lost, or kept of a batch that never was, changes nothing."""
    world, api, eye, load = _begin(lab, "c9", n, 20)
    world.redis.keep()
    try:
        load.start()
        kills = 0
        out = Outcome(n)
        while load.sending and kills < 3:
            time.sleep(4)
            world.redis.kill()
            time.sleep(1)
            world.redis.start()
            kills += 1
            out.took(_live(api))
        load.wait()
        api.drain(90)
        run = start(api)
        time.sleep(0.3)
        world.redis.kill()
        world.redis.start()
        settled(api, run)
        judged, _ = eyes.judge(load, eye, broadcast=True, bound=AHEAD)
    finally:
        world.redis.forget()
    judged.takeover = out.takeover
    judged.figure = f"{kills + 1} kills, one in mid-broadcast"
    return judged


@case("10", "Redis restarted empty, and flushed under live workers", share=16, least=2_000)
def emptied(lab: Lab, n: int) -> Outcome:
    """Views and the claims of open sends are rebuilt from the log; at a high rate, at a low one, and while a
    broadcast goes out."""
    world, api, eye, load = _begin(lab, "c10", n, 25)
    out = Outcome(n)
    load.start()
    flushes = 0
    for _ in range(3):  # at a high rate
        time.sleep(2)
        world.redis.flush()
        flushes += 1
    time.sleep(1)
    world.redis.kill()
    world.redis.start()
    out.took(_live(api))
    load.wait()
    api.drain(90)
    slow = Load(api, "c10slow", 100, lab.seed, rate=20, batch=1).start()
    for _ in range(5):  # at a low rate
        time.sleep(0.9)
        world.redis.flush()
        flushes += 1
    slow.wait()
    api.drain(90)
    world.provider.behave(Plan(slow=0.1))
    run = start(api)
    time.sleep(0.3)
    world.redis.flush()
    world.redis.kill()
    world.redis.start()
    out.took(_live(api))
    settled(api, run)
    api.drain(60)
    seen = eye.look()
    out.add(_both(load, slow, seen))
    sent = eyes.sends(seen)
    # each worker may have had as much written ahead when its marks were lost
    sent.bound = 4 * AHEAD
    out.add(sent)
    people = [*load.people, *slow.people]
    load.people = people
    out.add(eyes.due(load, seen, eye, broadcast=True))
    out.must((out.takeover or 0) < 20, f"the views came back after {out.takeover:.0f} s")
    out.figure = f"{flushes + 1} flushes, 2 restarts empty"
    return out


def _both(one: Load, other: Load, seen: eyes.Seen) -> Outcome:
    """Two loads of one workspace, judged as one."""
    out = Outcome(0)
    out.n = one.total + other.total
    counted = one.counted() | other.counted()
    accepted = one.answers.accepted | other.answers.accepted
    missing = (accepted - seen.logged.keys()) | ((seen.logged.keys() & counted) - seen.applied.keys())
    out.lost = len(missing)
    out.repeated = sum(c - 1 for c in seen.applied.values())
    if missing:
        out.notes.append(f"missing {eyes.some(missing)}")
    wrong = [u for u, counts in {**one.counts, **other.counts}.items() if seen.counts.get(u) != counts]
    out.must(not wrong, f"counts of {len(wrong)} profiles are wrong: {eyes.some(wrong)}")
    wanted = {p.user for p in (*one.people, *other.people) if p.buyer}
    found = {u for u, segments in seen.segments.items() if loads.BUYERS in segments}
    out.must(wanted == found, f"buyers differ: {eyes.some(wanted ^ found)}")
    return out


@case("11", "Redis away for a minute", share=12, least=2_000)
def away(lab: Lab, n: int) -> Outcome:
    """The door goes on saying 2xx; what needs a view waits."""
    world, api, eye, load = _begin(lab, "c11", n, 45)
    load.start()
    time.sleep(2)
    with _down(world) as down:
        time.sleep(1)
        before = len(load.answers.accepted)
        time.sleep(30 if n < 5_000 else 58)
        during = len(load.answers.accepted) - before
    load.wait()
    out = Outcome(n)
    out.took(_live(api))
    api.drain(120)
    judged, _ = eyes.judge(load, eye, bound=AHEAD)
    judged.takeover = out.takeover
    gap = load.answers.longest_gap()
    judged.must(
        during > 0 and not load.answers.repeats, f"{load.answers.repeats} calls were refused: {load.answers}"[:300]
    )
    judged.figure = f"away {down[0]:.0f} s, {during} events taken meanwhile, longest gap {gap:.1f} s"
    return judged


@contextmanager
def _down(world: World) -> Iterator[list[float]]:
    spent = [0.0]
    begun = time.monotonic()
    world.redis.kill()
    try:
        yield spent
    finally:
        world.redis.start()
        spent[0] = time.monotonic() - begun
