"""Each stream stage by itself, beside a bare transactional copy loop over the same records.

A shop's events go through ingestion's record builder into Kafka; then the stages run one after the other, each
in a process of its own over all that the ones before it wrote. So every stage has real records, prepared, and
the whole of two cores with the broker. The copy loop reads the same topics right after it.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rondo_cli import broker
from rondo_common.catalogue import TOPICS
from rondo_common.settings import Settings
from tests.bench import stage_inputs
from tests.bench.frame import Figure, World, child
from tests.bench.stage_worker import STAGES
from tests.support.servers import Running, start_kafka, start_redis
from tests.support.stream_rig import Rig
from tests.support.toy_stage import Ask, ToyStage

NAME = "stages"
TITLE = "stream stages one by one, beside a bare transactional copy loop"
COPY = "bench.copy"
GOAL = 0.5
"""Of the copy loop (DESIGN 12)."""


class Bed:
    """Kafka and Redis of their own, with all topics."""

    def __init__(self, folder: Path):
        kafka, _ = start_kafka(folder / "kafka")
        self._servers: list[Running] = [kafka]
        try:
            redis, where = start_redis(folder / "redis")
            self._servers.append(redis)
            self.settings = Settings(
                kafka=f"127.0.0.1:{kafka.port}", redis=where.url, data_dir=str(folder / "data"), service="bench"
            )
            self.watched = {"kafka": kafka.child.pid, "redis": redis.child.pid}
            wanted = {name: (t.count(self.settings.partitions), 1, t.config(True)) for name, t in TOPICS.items()}
            broker.create_topics(self.settings.kafka, {**wanted, COPY: (self.settings.partitions, 1, {})})
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for server in self._servers:
            server.stop()

    def stage(self, name: str) -> dict[str, Any]:
        """Run a stage until it is idle."""
        return self.worker("tests.bench.stage_worker", name)

    def copy(self, topics: list[str]) -> dict[str, Any]:
        """Copy the topics once."""
        return self.worker("tests.bench.baselines.copy_loop", self.settings.kafka, COPY, ",".join(topics))

    def worker(self, module: str, *arguments: str, timeout_s: float = 200) -> dict[str, Any]:
        """Run a module of this folder in a process of its own, with the servers' pids; the JSON it prints."""
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "RONDO_KAFKA": self.settings.kafka,
            "RONDO_REDIS": self.settings.redis,
            "RONDO_DATA_DIR": self.settings.data_dir,
        }
        watched = [f"{name}={pid}" for name, pid in self.watched.items()]
        found: dict[str, Any] = child(module, *arguments, *watched, env=env, timeout_s=timeout_s)
        return found


def figure(name: str, mine: Mapping[str, Any], copied: Mapping[str, Any]) -> Figure:
    """A stage beside the copy loop."""
    rate, bare = _rate(mine), _rate(copied)
    details = {
        "records": mine["records"],
        "inputs of other kinds": mine["inputs"] - mine["records"],
        "written a record": round(mine["emitted"] / max(1, mine["records"]), 2),
        **{f"CPU µs/record {n}": _each(mine, n) for n in mine["cpu"]},
        **{f"CPU µs/record {n}, copy": _each(copied, n) for n in ("stage", "kafka")},
        "transactions/s": round(mine["transactions"] / mine["seconds"], 1),
        "RSS MiB": round(mine["rss"]),
    }
    if mine["dead"]:
        details["DEAD LETTERS"] = mine["dead"]
    return Figure(name, round(rate), "records/s", True, round(bare), "copy loop", round(bare * GOAL), details)


def _rate(run: Mapping[str, Any]) -> float:
    """Records a second. A stage whose work is mostly timers and sweeps has few of them: inputs count then."""
    return max(run["records"], run.get("inputs", 0)) / run["seconds"]


def _each(run: Mapping[str, Any], process: str) -> float:
    return round(run["cpu"][process] / max(run["records"], run.get("inputs", 0)) * 1e6, 1)


def toy(bed: Bed, count: int) -> Figure:
    """A stage that reads, changes and writes one state a record and emits one: the loop and little else."""
    settings = bed.settings
    rig = Rig(settings.kafka, settings.redis, settings.partitions, ToyStage("toy", log=0), settings.data_dir)
    fixed = [("ce_specversion", b"1.0"), ("ce_source", b"/rondo/bench"), ("ce_type", b"bench"), ("depth", b"1")]
    fixed += [("ce_time", b"2026-01-01T00:00:00Z"), ("content-type", b"application/json")]
    for i in range(count):
        key = f"demo:{i % (count // 5):08d}-aaaa-bbbb-cccc-dddddddddddd"
        rig.put(key, msgspec.json.encode(Ask(key)), headers=[*fixed, ("ce_id", b"%036d" % i)])
    rig.flush()
    return figure("toy", bed.stage("toy"), bed.copy([rig.stage.input]))


def run(world: World) -> list[Figure]:
    """One pass through the chain."""
    bed = Bed(world.folder / f"stages-{time.monotonic_ns()}")
    try:
        figures = [toy(bed, world.size(60_000, 3_000))]
        asyncio.run(stage_inputs.definitions(bed.settings))
        asyncio.run(stage_inputs.events(bed.settings, world.size(30_000, 2_000)))
        chosen = os.environ.get("RONDO_BENCH_STAGES", "").split(",")
        for name in list(STAGES)[1:]:
            mine = bed.stage(name)
            if chosen == [""] or name in chosen:
                figures.append(figure(name, mine, bed.copy(stage_inputs.of(name))))
        return figures
    finally:
        bed.stop()
