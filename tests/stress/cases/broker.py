"""The broker: killed, stopped, cut off from one worker."""

import time

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress import servers
from tests.stress.cases.workers import OPEN_CALLS
from tests.stress.eye import Eye
from tests.stress.lab import Lab, pid_of_group
from tests.stress.load import Load
from tests.stress.registry import Outcome, case

DOWN_S = 5.0


@case("5", "kill -9 of the broker x3, 5 s down", share=20, least=2_000)
def killed(lab: Lab, n: int) -> Outcome:
    """The door says 503 or waits; everything that got a 2xx is there, and half a minute later it is done."""
    world = lab.world()
    api = world.space("c5")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c5", n, lab.seed, rate=n / 35).start()
    for _ in range(3):
        time.sleep(3.0)
        world.kafka.kill()
        time.sleep(DOWN_S)
        world.kafka.start()
    load.wait()
    ended = time.monotonic()
    world.ready(90)
    api.drain(120)
    spent = time.monotonic() - ended
    api.post(f"/v1/campaigns/{loads.SPRING}/start", key="c5")
    api.drain(90)
    out, _ = eyes.judge(load, eye, broadcast=True, bound=OPEN_CALLS)
    out.takeover = load.answers.longest_gap()
    refused = sum(c for s, c in load.answers.statuses.items() if s != 200)
    out.must(spent < 30, f"drained only after {spent:.0f} s")
    out.figure = f"{refused} calls refused or cut, drained {spent:.1f} s after the last event"
    return out


@case("6", "SIGSTOP of the broker for 20 s", share=12, least=2_000)
def frozen(lab: Lab, n: int) -> Outcome:
    """No 2xx without an acknowledgement, however long that takes."""
    world = lab.world()
    api = world.space("c6")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c6", n, lab.seed, rate=n / 30).start()
    time.sleep(4)
    accepted = len(load.answers.accepted)
    with servers.stopped(pid_of_group(world.kafka)):
        time.sleep(1.0)
        before = len(load.answers.accepted)
        time.sleep(19.0)
        during = len(load.answers.accepted) - before
    load.wait()
    ended = time.monotonic()
    world.ready(90)
    api.drain(120)
    out, _ = eyes.judge(load, eye, bound=OPEN_CALLS)
    out.takeover = load.answers.longest_gap()
    out.must(accepted and during == 0, f"{during} events were accepted while the broker stood still")
    a = load.answers
    out.figure = (
        f"p99 {a.quantile(0.99):.1f} s, p50 {1000 * a.quantile(0.5):.0f} ms, "
        f"{sum(c for s, c in a.statuses.items() if s != 200)} refused, drained after {time.monotonic() - ended:.1f} s"
    )
    return out
