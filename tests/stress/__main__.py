"""`python -m tests.stress [case...] [--seed N] [--events 200000] [--json FILE]`: faults at size, a line each.

Exit 1 when anything was lost or repeated, when more sends are unknown than may be, or when something else
was not as it must be. docs/stress.md says what the cases and columns mean.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

for part in ("libs/common", "libs/cli", "protos"):
    sys.path.insert(0, str(Path(__file__).parents[2] / part))

from tests.stress import registry  # noqa: E402
from tests.stress.lab import Lab  # noqa: E402
from tests.stress.registry import Outcome  # noqa: E402


def main() -> int:
    cases = registry.load()
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__.split("\n")[0])
    parser.add_argument("case", nargs="*", help=f"numbers; all without: {', '.join(cases)}")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--events", type=int, default=200_000, help="events of all cases together")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--keep", action="store_true", help="leave logs and data")
    asked = parser.parse_args()
    if unknown := [n for n in asked.case if n not in cases]:
        parser.error(f"there is no case {unknown[0]}")
    sizes = registry.sizes(cases, asked.events)
    results = []
    lab = Lab(asked.seed, asked.keep)
    print(f"seed {asked.seed}, {asked.events} events over all cases\n{registry.heading()}", flush=True)
    try:
        for number in [n for n in cases if not asked.case or n in asked.case]:
            case = cases[number]
            if case.alone:
                lab.give_up()
            else:
                lab.world()  # its start is not the case's time
            begun = time.monotonic()
            try:
                out = case.run(lab, sizes[number])
            except Exception as e:
                traceback.print_exc(limit=-6)
                out = Outcome(sizes[number], wrong=[f"{type(e).__name__}: {e}".split("\n")[0][:500]])
                lab.give_up()
            seconds = time.monotonic() - begun
            print(registry.line(case, out, seconds), flush=True)
            for words in (*out.wrong, *out.notes):
                print(f"       {words}", flush=True)
            results.append(registry.document(case, out, seconds))
    finally:
        lab.close()
    bad = [r["case"] for r in results if not r["good"]]
    print(f"{len(results) - len(bad)} of {len(results)} cases hold" + (f"; not {', '.join(bad)}" if bad else ""))
    if asked.json:
        asked.json.write_text(json.dumps({"seed": asked.seed, "events": asked.events, "cases": results}, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
