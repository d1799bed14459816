"""`make demo`: see examples/demo/__init__.py. `--once`: end after the summary."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.demo.checks import Checks
from examples.demo.story import Story

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".rondo" / "state.json"
RESULT = ROOT / ".rondo" / "demo.json"
console = Console(highlight=False)


def rondo(*args: str) -> int:
    """The command line, as a person would call it."""
    return subprocess.run([sys.executable, "-m", "rondo_cli", *args], cwd=ROOT, check=False).returncode


def summary(checks: Checks) -> Table:
    table = Table(title="actual beside expected")
    for column, justify in (("", "left"), ("check", "left"), ("Rondo", "right"), ("expected", "right"), ("by", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for c in checks.all:
        mark = "[green]ok[/]" if c.ok else "[red]WRONG[/]"
        table.add_row(mark, c.name, str(c.actual), str(c.expected), c.source)
    return table


def main() -> int:
    ap = argparse.ArgumentParser(prog="make demo")
    ap.add_argument(
        "--once", action="store_true", help="end after the summary; the exit code says whether all is right"
    )
    ap.add_argument("--customers", type=int, help="only the first so many customers (for a quick look)")
    args = ap.parse_args()
    begun = time.monotonic()
    if rondo("up", "--detach", "--reset") != 0:
        console.print("The stack did not start. See above, or .rondo/logs; `rondo doctor` looks for causes.")
        return 1
    up = time.monotonic() - begun
    checks = Checks()
    code = 1
    try:
        state = json.loads(STATE.read_text())
        last_day = (datetime.now(UTC) - timedelta(days=1)).date()
        story = Story(state, checks, console, last_day, ROOT / ".rondo", args.customers)
        try:
            story.run()
        except Exception as e:
            console.print_exception()
            checks.add("the story went on to its end", f"{type(e).__name__}: {e}"[:200], "", "script")
        total = time.monotonic() - begun
        urls = {"dashboard": state["services"]["dashboard"]["http"], "inbox": state["services"]["dashboard"]["http"] + "/inbox",
                "api": state["services"]["gateway"]["http"] + "/openapi.json"}  # fmt: skip
        result = {"demo": 1, "ok": not checks.failed, "seconds": {"up": round(up, 1), "total": round(total, 1), **story.seconds},
                  "checks": checks.rows(), "urls": urls}  # fmt: skip
        RESULT.write_text(json.dumps(result, indent=1))
        console.print(summary(checks))
        for name, url in urls.items():
            console.print(f"{name:10} {url}", soft_wrap=True)
        console.print(f"{'key':10} {state['keys']['admin']}", soft_wrap=True)
        print(checks.last_line(total), flush=True)
        code = 1 if checks.failed else 0
        if not args.once:
            console.print("Everything stays up. Ctrl-C ends it.")
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        rondo("down")
    return code


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
