"""A profiles worker that restores all its partitions into an empty Redis, in a process of its own.

    python -m tests.bench.restore_worker [NAME=PID ...]          settings: RONDO_* variables

Prints one line of JSON: seconds from the assignment to the last partition live, records, CPU seconds of this
process and of the named ones, resident MiB of this process: at its highest, before it began and when it was done.
"""

import json
import logging
import os
import sys
import time
from pathlib import Path

import psutil

from rondo_common.clock import Clock
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from services.profiles.streams import ProfilesStage
from tests.bench.baselines.copy_loop import cpu
from tests.bench.stage_worker import total

PATIENCE_S = 280.0


def peak() -> float:
    """Most MiB this process has had resident. Not getrusage's ru_maxrss: that lives through an exec, so a child
    begins with its parent's, and the bench that starts this one has just filled a topic."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(errors="replace").splitlines())
    return next(int(words[1]) for words in lines if words[:1] == ["VmHWM:"]) / 1024


def main(watched: dict[str, int]) -> None:
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(service="profiles")
    processes = {"worker": psutil.Process(), **{n: psutil.Process(pid) for n, pid in watched.items()}}
    runner = StageRunner(ProfilesStage(settings.secret), settings, Clock()).start()
    deadline = time.monotonic() + PATIENCE_S
    while not total("rondo_stream_restores_total"):
        time.sleep(0.005)
    began, before, small = time.monotonic(), cpu(processes), processes["worker"].memory_info().rss / 2**20
    while not runner.ready()[0]:
        if time.monotonic() > deadline or runner.exit_code is not None:
            raise TimeoutError(f"not restored: {runner.ready()}")
        time.sleep(0.02)
    found = {
        "seconds": time.monotonic() - began,
        "records": total("rondo_stream_restored_records_total"),
        "cpu": {name: seconds - before[name] for name, seconds in cpu(processes).items()},
        "rss": peak(),
        "rss before": small,
        "rss after": processes["worker"].memory_info().rss / 2**20,
    }
    print(json.dumps(found), flush=True)
    runner.stop()
    os._exit(0)


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[1:])
    main({n: int(pid) for n, pid in pairs})
