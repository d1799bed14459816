"""How throughput grows with instances: one, two and three `profiles` on the same waiting events.

Each instance is pinned to a core of its own as far as there are cores; the rest (broker, Redis) has the
last one, which it shares with an instance when there are no more. The figures are printed, with what
each core had to give; nothing here asserts a time, only that the result is the same.

    pytest -s tests/stress/instances/test_instances_throughput.py
"""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from rondo_cli import broker
from rondo_common.topics import EVENTS, PROFILES
from tests.bench import ingestion
from tests.bench.frame import Usage
from tests.support.spine_compare import committed
from tests.support.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

BATCHES = 800
"""Of a hundred events each, all different."""
CORES = sorted(os.sched_getaffinity(0))


def pin(pid: int, cores: list[int]) -> None:
    """All threads of a process on these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def counts(stack: Stack) -> tuple[int, int]:
    """Events on the log, and how many of them profiles has committed."""
    with broker.admin(stack.kafka) as client:
        where = broker.all_partitions(client, [EVENTS])
        done = broker.committed(client, ["rondo.profiles"])["rondo.profiles"]
        return sum(broker.ends(client, where).values()), sum(done.get(tp, 0) for tp in where)


def test_throughput_by_instances(fresh_stack: Callable[..., Stack], tmp_path: Path) -> None:
    bodies = ingestion.prepare(tmp_path, BATCHES)["batch"].read_bytes().splitlines()
    for count in (1, 2, 3):
        stack = fresh_stack(scale={"profiles": count}, only=("ingestion", "profiles"))
        assert stack.rondo("stop", "profiles").returncode == 0
        url = stack.http("ingestion")
        with httpx.Client(base_url=url, auth=(stack.write_key, ""), timeout=60) as door, ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda b, door=door: door.post("/v1/batch", content=b), bodies):
                answer.raise_for_status()
        for p in psutil.Process(stack.state["supervisor"]["pid"]).children(recursive=True):
            pin(p.pid, CORES[-1:])
        assert stack.rondo("start", "profiles").returncode == 0
        stack.wait_ready()
        for slot in range(count):
            pin(stack.pid("profiles", slot) or 0, [CORES[slot % len(CORES)]])
        total, first = counts(stack)
        at, before, begun = first, Usage.of(stack), time.monotonic()
        while at < total:
            time.sleep(0.1)
            total, at = counts(stack)
        seconds = time.monotonic() - begun
        spent = Usage.of(stack) - before
        used = sum(spent.values()) / seconds
        cpu = ", ".join(f"{name} {s / seconds:.2f}" for name, s in spent.items() if s / seconds > 0.02)
        print(
            f"profiles x{count}: {total - first:,} events in {seconds:.1f} s = {(total - first) / seconds:,.0f}/s; "
            f"{used:.2f} of {len(CORES)} cores used ({cpu})",
            flush=True,
        )
        users = {json.loads(r.value)["user_id"] for r in committed(stack.kafka, EVENTS)}
        profiles = {json.loads(r.value)["user_id"] for r in committed(stack.kafka, PROFILES) if r.value}
        assert profiles == users
        stack.stop()
