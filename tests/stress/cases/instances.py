"""Several of each worker: the same result to the last touch, and what throughput does."""

import subprocess
import sys
from pathlib import Path

from tests.stress.lab import Lab
from tests.stress.registry import Outcome, case

FOLDER = Path(__file__).parents[1] / "instances"
LONGEST_S = 1_800


def _pytest(lab: Lab, name: str) -> tuple[int, list[str]]:
    """Run one of the tests in tests/stress/instances; its exit code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", f"--basetemp={lab.folder / name}"]
    command.append(str(FOLDER / f"{name}.py"))
    done = subprocess.run(
        command, cwd=FOLDER.parents[2], capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@case("42", "one, two and three of each worker", alone=True)
def equal(lab: Lab, n: int) -> Outcome:
    """The same story three times: profiles, memberships, verdicts, outcomes and conversations are equal."""
    code, lines = _pytest(lab, "test_instances_equal")
    out = Outcome(n)
    out.notes += [x for x in lines if " of each: " in x or "by instance" in x]
    out.must(code == 0, "they differ: " + " / ".join(x for x in lines if x.startswith("E "))[:2000])
    return out


@case("43", "events/s with one, two and three profiles", alone=True)
def throughput(lab: Lab, n: int) -> Outcome:
    """Figures to read: it grows while cores are free."""
    code, lines = _pytest(lab, "test_instances_throughput")
    out = Outcome(n)
    out.notes += [x for x in lines if x.startswith("profiles x")]
    out.must(code == 0 and len(out.notes) == 3, " / ".join(x for x in lines if x.startswith("E "))[:2000])
    return out
