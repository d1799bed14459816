"""`rondo bench`: run the benches of the source tree."""

import os
import subprocess
import sys
from pathlib import Path

from rondo_cli import paths
from rondo_cli.errors import Failure


def bench(names: list[str], runs: int, quick: bool, flush: bool, out: str | None, json: bool) -> int:
    """Run `python -m tests.bench` in the checkout; its exit code: 0 done, 1 a bench did not finish, 2 usage."""
    switches = {"--quick": quick, "--flush": flush, "--json": json}
    arguments = [*names, f"--runs={runs}", *(name for name, on in switches.items() if on)]
    if out:
        arguments.append(f"--out={Path(out).absolute()}")
    root = paths.CODE
    if not (root / "tests/bench/__main__.py").exists():
        raise Failure("rondo bench needs the source tree (tests/bench is not installed); run it in a checkout", 2)
    environment = {**os.environ, "PYTHONPATH": paths.python_path()}
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode
