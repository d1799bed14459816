"""Ended in order under load: the whole system at once, and a rolling restart."""

import os
import signal
import threading
import time

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress.eye import Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.registry import Outcome, case
from tests.support.spine_api import until

DRAIN_S = 20.0
ORDER = (
    *("insights", "egress", "community", "delivery-email", "delivery-sms", "delivery-messaging"),
    *("rhythm", "campaigns", "segmentation", "profiles", "links", "gateway", "dashboard", "ingestion"),
)
"""As docs/runbooks/restart.md has it: readers before writers."""


@case("40", "SIGTERM of the whole system under load, restart", share=18, least=2_000)
def ended(lab: Lab, n: int) -> Outcome:
    """Everything ends in order within 20 s, no 2xx is lost, and after the start all is done once."""
    world = lab.world()
    api = world.space("c40")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c40", n, lab.seed, rate=n / 30).start()
    time.sleep(5)
    run = api.post(f"/v1/campaigns/{loads.SPRING}/start", key="c40")["run_id"]
    time.sleep(0.5)
    pids = {(name, i["slot"]): i["pid"] for name, s in world.stack.state["services"].items() for i in s["instances"]}
    drained: dict[tuple[str, int], float] = {}
    watch = threading.Thread(target=_watch, args=(pids, drained), daemon=True)
    began = time.monotonic()
    watch.start()
    world.stack.stop()
    spent = time.monotonic() - began
    watch.join(60)
    words = (world.stack.folder / "up.out").read_text(errors="replace")
    killed = [line.split(" did not end")[0] for line in words.splitlines() if "did not end in" in line]
    world.stack.start()
    back = time.monotonic() - began
    load.wait()
    api.drain(120)
    api.run_until(run, lambda r: r["status"] == "finished" or not r["counts"]["queued"], "the run's end", 60)
    seen = eye.look()
    out = eyes.events(load, seen)
    sent = eyes.sends(seen)
    sent.bound = 0
    out.add(sent)
    out.add(eyes.due(load, seen, eye, broadcast=False))
    out.takeover = back
    slowest = max(drained, key=lambda k: drained[k])
    out.must(spent < DRAIN_S, f"it took {spent:.1f} s to end")
    out.must(not killed, f"had to be killed: {killed}")
    out.figure = f"ended in {spent:.1f} s (the slowest: {slowest[0]}, {drained[slowest]:.1f} s)"
    return out


@case("41", "rolling restart under load", share=12, least=2_000)
def rolled(lab: Lab, n: int) -> Outcome:
    """SIGTERM to every process, one after the other, each ready again before the next, while events come in and a
    broadcast goes out. An orderly end leaves no call in doubt, so no send may be unknown but where the provider
    was in doubt itself."""
    world = lab.world()
    api = world.space("c41")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c41", n, lab.seed, rate=n / 45).start()
    time.sleep(3)
    run = api.post(f"/v1/campaigns/{loads.SPRING}/start", key="c41")["run_id"]
    out, ended = Outcome(n), {}
    for name in ORDER:
        for slot in range(len(world.stack.state["services"][name]["instances"])):
            ended[name, slot] = _restarted(world, name, slot, out)
    load.wait()
    api.drain(120)
    api.run_until(run, lambda r: r["status"] == "finished" or not r["counts"]["queued"], "the run's end", 60)
    judged, _ = eyes.judge(load, eye)
    judged.add(out)
    judged.takeover = out.takeover
    slowest = max(ended, key=lambda k: ended[k])
    judged.must(ended[slowest] < DRAIN_S, f"{slowest} took {ended[slowest]:.1f} s to end")
    judged.figure = f"{len(ended)} processes in turn, the slowest to end: {slowest[0]}, {ended[slowest]:.1f} s"
    return judged


def _restarted(world: World, name: str, slot: int, out: Outcome) -> float:
    """SIGTERM an instance and wait until the whole is ready with another one; the seconds it took to end."""
    pid = world.stack.pid(name, slot)
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    ended: dict[tuple[str, int], float] = {}
    _watch({(name, slot): pid}, ended)
    until(lambda: world.stack.pid(name, slot) not in (None, pid), f"another {name}", 60, 0.05)
    world.ready()
    out.took(time.monotonic() - began)
    return ended[name, slot]


def _watch(pids: dict[tuple[str, int], int], drained: dict[tuple[str, int], float]) -> None:
    """When each process has ended."""
    began = time.monotonic()
    left = {k: p for k, p in pids.items() if p}
    while left and time.monotonic() - began < 55:
        for key, pid in list(left.items()):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                drained[key] = time.monotonic() - began
                del left[key]
        time.sleep(0.05)
    drained.update(dict.fromkeys(left, time.monotonic() - began))
