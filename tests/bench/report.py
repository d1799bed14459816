"""Results of benches: best and median of the runs, as a table, as JSON, as a Markdown page."""

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.frame import Figure


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cores": os.cpu_count(),
        "cpu": names[0] if names else platform.processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "confluent_kafka": version("confluent-kafka"),
        "load_before": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@dataclass
class Line:
    """One figure over all runs."""

    bench: str
    runs: list[Figure] = field(default_factory=list)

    @property
    def best(self) -> Figure:
        """The run with the best value."""
        pick = max if self.runs[0].higher_is_better else min
        return pick(self.runs, key=lambda f: f.value)

    @property
    def median(self) -> float:
        """Median value."""
        return statistics.median(f.value for f in self.runs)

    @property
    def ratios(self) -> list[float]:
        """Value over baseline, each run beside its own."""
        return [f.ratio for f in self.runs if f.ratio is not None]

    @property
    def verdict(self) -> str:
        """How the best run stands to the goal: `met`, or value over goal."""
        best = self.best
        if best.goal is None:
            return ""
        good = best.value >= best.goal if best.higher_is_better else best.value <= best.goal
        return "met" if good else f"{best.value / best.goal:.2f} x goal"


class Run:
    """All lines of one command."""

    def __init__(self, where: dict[str, Any], quick: bool, flush: bool):
        self.where, self.quick, self.flush = where, quick, flush
        self.titles: dict[str, str] = {}
        self.seconds: dict[str, list[float]] = {}
        self.lines: dict[tuple[str, str], Line] = {}

    def add(self, bench: str, title: str, figures: list[Figure], seconds: float) -> None:
        """The figures of one more run of a bench."""
        self.titles[bench] = title
        self.seconds.setdefault(bench, []).append(round(seconds, 1))
        for figure in figures:
            self.lines.setdefault((bench, figure.name), Line(bench)).runs.append(figure)

    def table(self) -> str:
        """For a terminal, one block a bench."""
        rows = [*self._head(), ""]
        for bench, title in self.titles.items():
            rows.append(f"{bench}: {title} ({len(self.seconds[bench])} runs, {sum(self.seconds[bench]):.0f} s)")
            rows.append(f"  {'':44}{'best':>12}{'median':>12}  {'unit':12}{'x baseline':>11}{'goal':>10}")
            for line in self._of(bench):
                rows.append(
                    f"  {line.best.name:44}{number(line.best.value):>12}{number(line.median):>12}"
                    f"  {line.best.unit:12}{ratio(line):>11}"
                    f"{'' if line.best.goal is None else number(line.best.goal):>10}  {line.verdict}"
                )
                if line.best.baseline is not None:
                    rows.append(f"      beside {line.best.baseline_name}: {number(line.best.baseline)}")
                details = [
                    f"{name} {number(v) if not isinstance(v, str) else v}" for name, v in line.best.details.items()
                ]
                rows.extend(f"      {', '.join(details[i : i + 5])}" for i in range(0, len(details), 5))
            rows.append("")
        return "\n".join(rows)

    def markdown(self) -> str:
        """A page for docs/bench."""
        rows = ["# Measured", "", *self._head(), ""]
        for bench, title in self.titles.items():
            rows += [f"## {bench}", "", title + ".", ""]
            rows += [
                "| figure | best | median | unit | x baseline (median) | baseline | goal | |",
                "|---|---|---|---|---|---|---|---|",
            ]
            for line in self._of(bench):
                best = line.best
                base = "" if best.baseline is None else f"{best.baseline_name}: {number(best.baseline)}"
                goal = "" if best.goal is None else number(best.goal)
                rows.append(
                    f"| {best.name} | {number(best.value)} | {number(line.median)} | {best.unit} | {ratio(line)} "
                    f"| {base} | {goal} | {line.verdict} |"
                )
            rows.append("")
            for line in self._of(bench):
                details = ", ".join(
                    f"{name} {number(v) if not isinstance(v, str) else v}" for name, v in line.best.details.items()
                )
                if details:
                    rows.append(f"- {line.best.name}: {details}")
            rows.append("")
        return "\n".join(rows)

    def as_json(self) -> dict[str, Any]:
        """Everything, run by run."""
        return {
            "machine": self.where,
            "quick": self.quick,
            "flush_messages_1": self.flush,
            "benches": {
                bench: {
                    "title": title,
                    "seconds": self.seconds[bench],
                    "figures": [
                        {
                            "name": line.best.name,
                            "unit": line.best.unit,
                            "best": line.best.value,
                            "median": line.median,
                            "ratios": line.ratios,
                            "goal": line.best.goal,
                            "runs": [
                                {"value": f.value, "baseline": f.baseline, "details": dict(f.details)}
                                for f in line.runs
                            ],
                            "baseline": line.best.baseline_name,
                        }
                        for line in self._of(bench)
                    ],
                }
                for bench, title in self.titles.items()
            },
        }

    def write(self, out: Path) -> None:
        """OUT.json and OUT.md."""
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps(self.as_json(), indent=1) + "\n")
        out.with_suffix(".md").write_text(self.markdown())

    def _of(self, bench: str) -> list[Line]:
        return [line for line in self.lines.values() if line.bench == bench]

    def _head(self) -> list[str]:
        w = self.where
        durable = (
            "flush.messages=1: synced to disk before each acknowledgement" if self.flush else "the broker's defaults"
        )
        head = [
            f"{w['cores']} cores ({w['cpu']}), {w['memory_gib']} GiB, Python {w['python']}, "
            f"confluent-kafka {w['confluent_kafka']}, commit {w['commit']}, {w['at']}, load before {w['load_before']:.1f}.",
            f"One broker, acks=all, {durable}. Clients, servers and sinks share the cores.",
        ]
        return [*head, "QUICK: small sizes, these numbers mean nothing."] if self.quick else head


def number(value: float) -> str:
    """Three or four significant digits, thousands grouped."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(line: Line) -> str:
    """Median of the ratios to the baseline."""
    return f"{statistics.median(line.ratios):.2f}" if line.ratios else ""
