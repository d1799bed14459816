"""`rondo bench`: run the benches of the source tree."""

import os
import subprocess
import sys

from rondo_cli import paths
from rondo_cli.errors import Failure


def bench(arguments: list[str]) -> int:
    """Run `python -m tests.bench` in the checkout; its exit code."""
    root = paths.CODE
    if not (root / "tests/bench/__main__.py").exists():
        raise Failure("rondo bench needs the source tree (tests/bench is not installed); run it in a checkout", 2)
    environment = {**os.environ, "PYTHONPATH": paths.python_path()}
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode
