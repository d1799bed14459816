"""What every bench is made of: a World to work in, Usage to count by, Figures to return.

A bench is a module with `NAME`, `TITLE` and `run(world) -> list[Figure]`; one call is one run. The frame
(tests/bench/__main__.py) calls it several times and shows best and median beside the baseline that was
measured in the same run. Nothing here asserts a time: a bench reports, a person judges.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.sink import ROOT
from tests.support.stack import Stack

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    `baseline` was measured in the same run on the same machine; `goal` is the number of the design.
    `details` are further numbers of this figure, by name with their unit, e.g. {"p99 ms": 12.0}.
    """

    name: str
    value: float
    unit: str
    higher_is_better: bool = True
    baseline: float | None = None
    baseline_name: str = ""
    goal: float | None = None
    details: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Value over baseline, None without one."""
        return self.value / self.baseline if self.baseline else None


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system) and resident MiB by process name, at one moment.

    Names are those of the stack (`profiles`, `delivery-email`, `kafka`, `redis`, `rondo up`); several
    instances of one service count together. `later - earlier` gives the CPU between the two.
    """

    cpu: Mapping[str, float]
    rss: Mapping[str, float]
    at: float

    @classmethod
    def of(cls, stack: Stack, **others: int) -> "Usage":
        """Of all processes of a stack, and of further ones by name=pid."""
        root = psutil.Process(stack.state["supervisor"]["pid"])
        found = [(_name(p), p) for p in (root, *root.children(recursive=True))]
        return cls._sum([*found, *((name, psutil.Process(pid)) for name, pid in others.items())])

    @classmethod
    def of_pids(cls, **pids: int) -> "Usage":
        """Of the processes name=pid."""
        return cls._sum([(name, psutil.Process(pid)) for name, pid in pids.items()])

    @classmethod
    def _sum(cls, processes: Sequence[tuple[str, psutil.Process]]) -> "Usage":
        cpu: dict[str, float] = {}
        rss: dict[str, float] = {}
        for name, process in processes:
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:
                continue
            cpu[name] = cpu.get(name, 0.0) + times.user + times.system
            rss[name] = rss.get(name, 0.0) + memory.rss / 2**20
        return cls(cpu, rss, time.monotonic())

    def __sub__(self, before: "Usage") -> dict[str, float]:
        """CPU seconds spent since `before`, by name, largest first."""
        spent = {name: seconds - before.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        return dict(sorted(spent.items(), key=lambda kv: -kv[1]))


def _name(process: psutil.Process) -> str:
    """A stack's process by what it runs."""
    try:
        words = " ".join(process.cmdline()).split()  # one that was forked has its name in one piece
    except psutil.Error:
        return "gone"
    if "services" in words[:-1]:
        return words[words.index("services") + 1]
    if words[:3] == ["rondo", "fork", "server"]:
        return "fork server"
    if words and words[0].endswith("java"):
        return "kafka"
    if words and any(server in words[0] for server in ("valkey", "redis")):
        return "redis"
    return "rondo up" if "up" in words else Path(words[0]).name if words else "gone"


def per_record(spent: Mapping[str, float], records: int, floor_us: float = 1.0) -> dict[str, float]:
    """CPU microseconds a record by process, for Figure.details; what is under `floor_us` is left out."""
    each = {f"CPU µs {name}": round(s / records * 1e6, 1) for name, s in spent.items()}
    return {name: us for name, us in each.items() if us >= floor_us}


def per_thousand(spent: Mapping[str, float], records: int) -> float:
    """CPU seconds in all processes for 1,000 records."""
    return sum(spent.values()) / records * 1000


def metric(url: str, name: str) -> float:
    """Sum of a counter or gauge over all its labels at one /metrics; 0 when it is not there."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(s.value for family in families for s in family.samples if s.name == name)


def total(stack: Stack, name: str) -> float:
    """Sum of a metric over every instance of every service of a stack."""
    entries = stack.state["services"].values()
    return sum(metric(i["metrics"], name) for e in entries for i in e["instances"] if i.get("metrics"))


def transactions(stack: Stack) -> Counter[str]:
    """Kafka transactions since the start, by service. `later - earlier` gives those between the two."""
    made: Counter[str] = Counter()
    for name, entry in stack.state["services"].items():
        for instance in entry["instances"]:
            if instance.get("metrics"):
                made[name] += round(metric(instance["metrics"], "rondo_stream_transactions_total"))
    return made


def per_second(made: Counter[str], seconds: float) -> dict[str, float]:
    """Transactions a second, all and by service, for Figure.details."""
    each = {f"transactions/s {name}": round(n / seconds, 1) for name, n in made.most_common() if n / seconds >= 0.1}
    return {"transactions/s": round(made.total() / seconds, 1), **each}


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (nearest rank) of a non-empty sequence."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))]


def hottest(pid: int, seconds: int = 5, lines: int = 12) -> list[str]:
    """py-spy's hottest own lines of a process over some seconds: `share function (file:line)`."""
    command = [Path(sys.executable).with_name("py-spy"), "record", "-p", str(pid), "-d", str(seconds), "-r", "200"]
    with_output = [*map(str, command), "-f", "raw", "-o", "/dev/stdout"]
    out = subprocess.run(with_output, capture_output=True, text=True, timeout=seconds + 20, check=False).stdout
    counts: dict[str, int] = {}
    for line in out.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            leaf = stack.rsplit(";", 1)[-1]
            counts[leaf] = counts.get(leaf, 0) + int(count)
    whole = sum(counts.values()) or 1
    top = sorted(counts.items(), key=lambda kv: -kv[1])[:lines]
    return [f"{n / whole:5.1%} {leaf}" for leaf, n in top]


@dataclass(frozen=True)
class World:
    """Where a run takes place. `folder` is its own and removed afterwards."""

    folder: Path
    quick: bool = False
    shared: dict[str, object] = field(default_factory=dict)
    """Lives as long as the command: what one run may leave to the next (e.g. imported members)."""

    def size(self, full: int, quick: int) -> int:
        """A count: the real one, or a small one under --quick."""
        return quick if self.quick else full

    @contextmanager
    def stack(
        self,
        only: tuple[str, ...] = (),
        scale: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Iterator[Stack]:
        """`rondo up` as shipped, in the scratch folder, on any free ports; ends with the block."""
        # a Stack hides RONDO_* of the caller; this one is meant for it
        flush = {k: v for k, v in os.environ.items() if k == "RONDO_LOCAL_KAFKA_FLUSH"}
        stack = Stack(
            self.folder / f"stack-{time.monotonic_ns()}", scale=scale, env={**flush, **(env or {})}, only=only
        )
        try:
            yield stack
        finally:
            stack.stop()


def child(module: str, *arguments: str | int, env: Mapping[str, str] | None = None, timeout_s: float = 300) -> Any:
    """Run a module in a process of its own; the JSON in the last line it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout_s)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def baseline(name: str, *arguments: str | int) -> Any:
    """What a baseline says of itself."""
    return child(f"tests.bench.baselines.{name}", *arguments)
