""".rondo/state.json: how anything finds the running stack (WIRE 1). Written by the supervisor, read by
everybody else."""

import json
import os
from pathlib import Path
from typing import Any

from rondo_cli.errors import Failure
from rondo_cli.paths import rondo_dir

NAME = "state.json"


def write(folder: Path, state: dict[str, Any]) -> None:
    """Replace the file atomically."""
    new = folder / f"{NAME}.{os.getpid()}.new"
    new.write_text(json.dumps(state, indent=1) + "\n")
    new.replace(folder / NAME)


def read(folder: Path | None = None) -> dict[str, Any] | None:
    """What the file says, None when there is none."""
    try:
        found: dict[str, Any] = json.loads(((folder or rondo_dir()) / NAME).read_text())
    except FileNotFoundError:
        return None
    return found


def alive(state: dict[str, Any] | None) -> bool:
    """True when the supervisor that wrote this state still runs."""
    from rondo_cli.local.process import started_at

    if not state or not state.get("supervisor"):
        return False
    supervisor = state["supervisor"]
    return bool(supervisor["started"]) and started_at(supervisor["pid"]) == supervisor["started"]


def running(folder: Path | None = None) -> dict[str, Any]:
    """The state of the running stack. Failure when there is none."""
    found = read(folder)
    if found is None:
        raise Failure(f"no stack here: {(folder or rondo_dir()) / NAME} is missing. Start one with `rondo up`.")
    if not alive(found):
        raise Failure("the stack is not running. Start it with `rondo up`.")
    return found
