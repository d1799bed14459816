"""`rondo down`, `status` and `serve`."""

import asyncio
import json as jsonlib
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rondo_cli import output, state
from rondo_cli.errors import Failure
from rondo_cli.local.process import started_at, wait_gone
from rondo_cli.paths import CODE, python_path, rondo_dir

STOP_S = 30.0


def down() -> int:
    """End the stack through its supervisor; only a process that is certainly it gets a signal."""
    found = state.read()
    if not state.alive(found):
        print("nothing is running here")
        return 0
    assert found
    pid, began = found["supervisor"]["pid"], found["supervisor"]["started"]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not wait_gone(pid, began, STOP_S):
        with suppress(ProcessLookupError):
            if started_at(pid) == began:
                os.kill(pid, signal.SIGKILL)  # its children die with it
        wait_gone(pid, began, 5.0)
        print("stopped (it had to be killed)")
        return 1
    print("stopped")
    return 0


def hold(name: str) -> int:
    """Stop every instance of a process; the supervisor keeps it stopped while its file is there."""
    held = _held(name)
    held.touch()
    return _until(name, {"held"}, f"{name} is stopped; `rondo start {name}` lets it run again")


def release(name: str) -> int:
    """Let it run again."""
    _held(name).unlink(missing_ok=True)
    return _until(name, {"ready"}, f"{name} is ready")


def _held(name: str) -> Path:
    found = state.running()
    if name != "capture" and name not in found["services"]:
        raise Failure(
            f"there is no service {name!r} in the stack; there are {', '.join(found['services'])}, capture", 2
        )
    return rondo_dir() / "held" / name


def _until(name: str, wanted: set[str], done: str) -> int:
    deadline = time.monotonic() + STOP_S * 2
    while time.monotonic() < deadline:
        found = state.running()
        entry = found["capture"] if name == "capture" else found["services"][name]
        if {i["status"] for i in entry["instances"]} <= wanted:
            print(done)
            return 0
        time.sleep(0.1)
    raise Failure(f"{name} is still {entry['status']}")


def status(json: bool) -> int:
    """What runs. Exit 0 when all is ready, else 1."""
    found = state.read()
    if found is None:
        raise Failure(f"no stack here: {rondo_dir() / state.NAME} is missing. Start one with `rondo up`.")
    if not state.alive(found) and found["status"] not in ("stopped", "failed"):
        found["status"] = "dead"
    rows = asyncio.run(_rows(found))
    if json:
        output.as_json({**found, "readiness": [dict(zip(_COLUMNS, r, strict=True)) for r in rows]})
    else:
        print(f"{found['status']}: kafka {found['kafka']}, redis {found['redis']}, {rondo_dir()}")
        output.as_table("", _COLUMNS, rows)
    return 0 if found["status"] == "ready" and all(r[1] == "ready" for r in rows) else 1


_COLUMNS = ("process", "status", "pid", "http", "grpc", "restarts", "detail")


async def _rows(found: dict[str, Any]) -> list[list[Any]]:
    rows = [[n, s["status"], s["pid"], None, None, s["restarts"], ""] for n, s in found.get("servers", {}).items()]
    entries = {**found["services"], **({"capture": found["capture"]} if "instances" in found["capture"] else {})}
    asked = [
        (name if i["slot"] == 0 else f"{name}.{i['slot']}", i) for name, s in entries.items() for i in s["instances"]
    ]
    details = await asyncio.gather(*(_detail(i) for _, i in asked))
    for (label, i), (good, detail) in zip(asked, details, strict=True):
        now = i["status"] if good or i["status"] != "ready" else "not ready"
        rows.append([label, now, i["pid"], i["http"], i.get("grpc"), i["restarts"], detail])
    return rows


async def _detail(instance: dict[str, Any]) -> tuple[bool, str]:
    from rondo_cli.local import probe

    if instance["pid"] is None:
        return False, instance.get("note", "")
    code, body = await probe.get(int(instance["http"].rpartition(":")[2]), "/readyz")
    if code == 0:
        return False, "does not answer"
    try:
        return code == 200, str(jsonlib.loads(body).get("detail", ""))
    except (ValueError, AttributeError):
        return code == 200, ""


def serve(name: str) -> int:
    """Become `python -m services NAME`."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (python_path(), os.environ.get("PYTHONPATH"))))}
    os.chdir(CODE)
    os.execve(sys.executable, [sys.executable, "-m", "services", name], env)
