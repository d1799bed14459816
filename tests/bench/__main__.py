"""`rondo bench`: every number of the design, measured beside a baseline in the same run.

python -m tests.bench                          all, three runs each
python -m tests.bench broadcast chain --runs 1
python -m tests.bench --quick                  small sizes, to see that it works
python -m tests.bench --flush                  the broker syncs every record to disk before it acknowledges
python -m tests.bench --out FILE               also write FILE.json and FILE.md
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.bench import report
from tests.bench.frame import Figure, World

BENCHES = (
    "ingestion",
    "stages",
    "chain",
    "latency",
    "delivery",
    "broadcast",
    "preview",
    "restore",
    "startup",
)
"""In the order in which they run; each is a module of this folder."""


def once(bench: ModuleType, quick: bool, shared: dict[str, object]) -> list[Figure]:
    """One run in a scratch folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix=f"rondo-bench-{bench.NAME}-"))
    try:
        return bench.run(World(folder, quick, shared))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rondo bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHES)}")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, measures nothing")
    parser.add_argument("--flush", action="store_true", help="broker with flush.messages=1")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--out", help="write OUT.json and OUT.md")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.flush:
        os.environ["RONDO_LOCAL_KAFKA_FLUSH"] = "1"
    run = report.Run(report.machine(), options.quick, options.flush)
    failed = []
    for name in options.names or BENCHES:
        bench = import_module(f"tests.bench.{name}")
        shared: dict[str, object] = {}
        try:
            for number in range(1, options.runs + 1):
                print(f"{name} {number}/{options.runs}: {bench.TITLE}", file=sys.stderr, flush=True)
                began = time.monotonic()
                run.add(name, bench.TITLE, once(bench, options.quick, shared), time.monotonic() - began)
        except Exception:
            traceback.print_exc()
            failed.append(name)
        finally:
            if done := getattr(bench, "done", None):
                done(shared)
        if options.out:
            run.write(Path(options.out))
    print(json.dumps(run.as_json(), indent=1) if options.json else run.table())
    if failed:
        print(f"rondo bench: did not finish: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
