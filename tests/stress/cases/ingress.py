"""The door: killed under load, and fed what nobody should send."""

import gzip
import time

import httpx

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress import servers
from tests.stress.eye import Eye
from tests.stress.lab import Lab
from tests.stress.load import Load
from tests.stress.registry import Outcome, case


@case("1", "kill -9 ingestion at 500 events/s, clients try again", share=20, least=2_000)
def killed_door(lab: Lab, n: int) -> Outcome:
    """A 2xx is a promise; a call that broke off is made again under the same ids and counts once."""
    world = lab.world()
    api = world.space("c1")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c1", n, lab.seed, rate=min(500.0, n / 12), batch=10).start()
    kills, longest = 0, 0.0
    # not oftener: whoever dies soon after its start is started again ever later
    while load.sending and kills < 5:
        time.sleep(2.0)
        world.stack.kill("ingestion")
        kills += 1
        longest = max(longest, world.answers("ingestion"))
    load.wait()
    world.ready()
    api.drain(90)
    out, seen = eyes.judge(load, eye)
    out.takeover = longest
    written = sum(seen.logged.values()) - len(seen.logged)
    out.figure = f"{kills} kills, {load.answers.repeats} calls made again, {written} events logged twice, applied once"
    out.must(kills >= 3, "the load was over before three kills")
    return out


MB = 1024 * 1024
GROWTH_MB = 50.0
QUICK_S = 0.05


def _door_bodies() -> dict[str, tuple[bytes, dict[str, str], set[int]]]:
    """Bodies that must be refused: (body, headers, statuses allowed)."""
    event = {"type": "track", "userId": "u", "event": "x", "messageId": "big", "properties": {"a": "x" * MB}}
    deep = b'{"batch":[{"type":"track","userId":"u","event":"x","properties":' + b'{"a":' * 10_000 + b"1"
    bomb = gzip.compress(b'{"batch":[' + b" " * (200 * MB) + b"]}", 9)
    return {
        "1 MB in an event": (servers.as_json({"batch": [event]}), {}, {400, 413}),
        "10 MB": (servers.as_json({"batch": [{**event, "properties": {"a": "x" * 10 * MB}}]}), {}, {400, 413}),
        "gzip of 200 MB": (bomb, {"Content-Encoding": "gzip"}, {400, 413}),
        "JSON 10,000 deep": (deep + b"}" * 10_000 + b"}]}", {}, {400}),
        "JSON 10,000 deep, open": (deep, {}, {400}),
        "no JSON": (b"\x00\xff" * 500, {}, {400}),
    }


@case("24", "1 MB, 10 MB, gzip bomb, JSON 10,000 deep", least=0)
def monstrous_bodies(lab: Lab, n: int) -> Outcome:
    """Refused quickly and without taking memory; the door goes on serving."""
    world = lab.world()
    api = world.space("c24")
    bodies = _door_bodies()
    out = Outcome(0)
    pid = world.stack.pid("ingestion")
    assert pid is not None
    slowest, where = 0.0, ""
    with httpx.Client(base_url=api.door.base_url, auth=api.door.auth, timeout=30, trust_env=False) as client:
        client.post("/v1/batch", json={"batch": []})
        before = servers.rss_mb(pid)
        for name, (body, headers, allowed) in bodies.items():
            times = []
            for _ in range(10):
                began = time.perf_counter()
                try:
                    answer = client.post("/v1/batch", content=body, headers={"X-Strict-Mode": "1", **headers})
                    out.must(answer.status_code in allowed, f"{name}: {answer.status_code} {answer.text[:200]}")
                except httpx.WriteError:
                    pass  # the door hung up without reading on: refused as well
                times.append(time.perf_counter() - began)
                out.n += 1
            if min(times) > slowest:
                slowest, where = min(times), name
        grown = servers.rss_mb(pid) - before
        good = client.post("/v1/batch", json={"batch": []})
    out.must(good.status_code in (200, 400), f"afterwards the door says {good.status_code}")
    out.must(world.stack.pid("ingestion") == pid, "ingestion was started again")
    out.must(grown < GROWTH_MB, f"resident memory grew by {grown:.0f} MB")
    # the best of ten: this machine's other work is not the door's
    out.must(slowest < QUICK_S, f"{where} took {slowest * 1000:.0f} ms")
    out.figure = f"memory +{grown:.0f} MB, slowest refusal {slowest * 1000:.0f} ms ({where})"
    return out
