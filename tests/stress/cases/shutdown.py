"""The whole system ended in order under load, and started again."""

import os
import threading
import time

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress.eye import Eye
from tests.stress.lab import Lab
from tests.stress.load import Load
from tests.stress.registry import Outcome, case

DRAIN_S = 20.0


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
