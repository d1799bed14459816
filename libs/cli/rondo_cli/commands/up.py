"""`rondo up`: options checked, then the supervisor, in the foreground or detached."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rondo_cli import state
from rondo_cli.errors import Failure
from rondo_cli.paths import rondo_dir

if TYPE_CHECKING:
    from rondo_cli.local.logs import Follower
    from rondo_cli.local.plan import Plan
    from rondo_cli.local.supervisor import Supervisor

DETACH_S = 180.0
OWN = ("data", "logs", "state.json", "ports.json", "secrets.json", "clock", "meta.json", "demo.json", "held")
"""What the stack keeps in its folder, and `--reset` wipes."""


def up(
    detach: bool,
    scale: list[str],
    test_clock: str | None,
    external: bool,
    reset: bool,
    any_ports: bool,
    only: tuple[str, ...] = (),
) -> int:
    """Start the stack. The exit code: 0 stopped in order (or ready, when detached), 1 failed."""
    folder = rondo_dir()
    counts = _scale(scale)
    at = _instant(test_clock)
    from rondo_cli.local import supervisor

    held = supervisor.lock(folder)
    if reset:
        _wipe(folder)
    _clock(folder, at)
    if detach:
        held.close()  # the detached process takes it
        return _detached(folder)
    from rondo_cli.local import plan
    from rondo_cli.local.logs import Follower

    made = plan.make(plan.Options(folder, counts, at, external, any_ports, only))
    follower = Follower(folder / "logs")
    with held:
        return asyncio.run(_foreground(supervisor.Supervisor(made, follower.say), follower))


async def _foreground(running: "Supervisor", follower: "Follower") -> int:
    following = asyncio.create_task(follower.run())
    announcing = asyncio.create_task(_announce(running, follower))
    try:
        code: int = await running.run()
    finally:
        following.cancel()
        announcing.cancel()
        follower.flush()
    return code


async def _announce(running: "Supervisor", follower: "Follower") -> None:
    await running.ready.wait()
    for line in welcome(running.plan):
        follower.say(line)


def welcome(plan: "Plan") -> list[str]:
    """What a person needs first: one page, one key, one call."""
    http = plan.addresses.http
    key = plan.secrets["RONDO_WRITE_KEY"]
    return [
        "",
        "READY. Nothing leaves this machine: messages land in the inbox.",
        f"  dashboard  {http['dashboard']}",
        f"  API        {http['gateway']}",
        f"  write key  {key}",
        f"  try        curl -u '{key}:' -H 'content-type: application/json' {http['ingestion']}/v1/track \\",
        """               -d '{"userId":"u1","event":"Order Completed","properties":{"total":31.5}}'""",
        "  Ctrl-C stops everything.",
    ]


def _scale(given: list[str]) -> dict[str, int]:
    out = {}
    for item in given:
        name, _, count = item.partition("=")
        if not count.isdigit():
            raise Failure(f"--scale wants name=n, not {item!r}", 2)
        out[name] = int(count)
    return out


def _instant(text: str | None) -> int | None:
    from rondo_common.clock import from_iso

    if text is None:
        return None
    try:
        return int(from_iso(text))
    except ValueError as e:
        raise Failure(f"--test-clock: {e}", 2) from e


def _wipe(folder: Path) -> None:
    for name in OWN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _clock(folder: Path, at: int | None) -> None:
    """Hold the folder to one kind of time; make or move the test clock's file."""
    from rondo_common.clock import Clock, create_clock_file, iso

    meta = folder / "meta.json"
    frozen = at is not None
    if meta.exists() and json.loads(meta.read_text())["test_clock"] != frozen:
        kind = "the system's clock" if frozen else "a test clock"
        raise Failure(f"the data in {folder} was made under {kind}; start afresh with --reset", 2)
    meta.write_text(json.dumps({"test_clock": frozen}) + "\n")
    if at is None:
        return
    file = folder / "clock"
    if not file.exists():
        create_clock_file(str(file), at)
        return
    clock = Clock(str(file))
    if at < clock.now():
        raise Failure(f"the test clock stands at {iso(clock.now())} and never goes backwards; --reset starts afresh", 2)
    clock.advance(at)


def _detached(folder: Path) -> int:
    """Run the same command without --detach and --reset in a session of its own; wait until ready."""
    words = [w for w in sys.argv[1:] if w not in ("--detach", "-d", "--reset")]
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    out = logs / "up.log"
    with out.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "rondo_cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "RONDO_DIR": str(folder)},
        )
    deadline = time.monotonic() + DETACH_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise Failure(f"the stack did not start:\n{_tail(out)}")
        found = state.read(folder) or {}
        if found.get("status") == "ready" and (found.get("supervisor") or {}).get("pid") == child.pid:
            print(
                f"ready: {found['services'].get('dashboard', {}).get('http', found['kafka'])} (`rondo down` stops it)"
            )
            return 0
        time.sleep(0.1)
    child.terminate()
    child.wait(20)
    raise Failure(f"the stack was not ready after {DETACH_S:.0f} s:\n{_tail(out)}")


def _tail(path: Path, lines: int = 25) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
