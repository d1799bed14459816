"""`rondo up`, warm (servers' files in the cache, a fresh data folder) and cold (nothing at all in the cache).

Cold means what a first start on a machine means: Kafka's jars, and Java where there is none, come from
their registries, so that figure holds the network too.
"""

import time
from pathlib import Path

from tests.bench.frame import Figure, Usage, World, per_thousand
from tests.support.servers import start_kafka
from tests.support.stack import Stack

NAME = "startup"
TITLE = "rondo up: from the command until everything is ready"

WARM_S, COLD_S = 20.0, 60.0


def run(world: World) -> list[Figure]:
    """One run; see the module."""
    begun = time.monotonic()
    server, _ = start_kafka(world.folder / "kafka-alone")
    broker_s = time.monotonic() - begun
    server.stop()
    out = [_up(world.folder / "warm", "warm", WARM_S, broker_s, {})]
    if not world.quick:
        empty = world.folder / "empty-cache"
        empty.mkdir()
        out.append(_up(world.folder / "cold", "cold", COLD_S, broker_s, {"RONDO_CACHE": str(empty)}))
    return out


def _up(folder: Path, how: str, goal: float, broker_s: float, env: dict[str, str]) -> Figure:
    """Start everything once. The phases are seconds since the command, as the supervisor noted them."""
    begun = time.monotonic()
    stack = Stack(folder, env=env)
    seconds = time.monotonic() - begun
    try:
        spent = Usage.of(stack)
        phases = {f"{name} at s": at for name, at in stack.state["phases"].items()}
        most = sorted(spent.cpu.items(), key=lambda kv: -kv[1])[:5]
    finally:
        stack.stop()
    details: dict[str, float | str] = {
        **phases,
        "CPU s all": round(per_thousand(spent.cpu, 1000), 1),
        **{f"CPU s {name}": round(s, 1) for name, s in most},
        "processes": len(spent.cpu),
    }
    return Figure(f"rondo up, {how}", seconds, "s", False, broker_s, "the broker alone", goal, details)
