"""Schemathesis for longer: every edge of every parameter and body, then data made up under several seeds."""

from tests.stress.lab import Lab
from tests.stress.registry import Outcome, case
from tests.support.fuzzing import Target
from tests.support.stack import Stack

SEEDS = 2


@case("51", "the APIs against their OpenAPI documents, fuzzed", alone=True)
def fuzzed(lab: Lab, n: int) -> Outcome:
    """No server error, no undocumented status, answers as described, bad input refused."""
    stack = Stack(lab.folder / "fuzzed")
    out = Outcome(0)
    try:
        target = Target(stack, "fuzzed")
        for run in (target.gateway, target.ingestion):
            reports = [run(seed=lab.seed, examples=1, phases="examples,coverage")]
            reports += [run(seed=lab.seed + k, examples=25, phases="fuzzing,stateful") for k in range(SEEDS)]
            for report in reports:
                called, known = report.tested
                out.n += report.cases
                out.must(report.good, report.text[-2_000:])
                out.must(called == known, f"{called} of {known} addresses were called")
    finally:
        stack.stop()
    out.figure = f"{out.n} calls"
    return out
