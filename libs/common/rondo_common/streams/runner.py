"""A stage in a thread of its own beside the process's servers.

runner = StageRunner(stage, settings, clock, effector)
life.thread("stage", runner.run, runner.ask_stop)
ready, why = runner.ready()
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from rondo_common.settings import Settings
from rondo_common.stage import Stage
from rondo_common.streams.effector import Effector
from rondo_common.streams.loop import BATCH, Loop
from rondo_common.streams.runtime import FAILED, run_stage

log = logging.getLogger("rondo.streams")


class Ended(RuntimeError):
    """The loop ended by itself; the process ends with the loop's code."""

    def __init__(self, code: int):
        super().__init__(f"the stage ended with code {code}")
        self.exit_code = code or 1


class StageRunner:
    """Runs a stage in a thread of its own beside the process's servers. When the loop ends by itself,
    `on_exit(code)` is called; without it the process ends at once with that code."""

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        clock: Any,
        effector: Effector | None = None,
        on_exit: Callable[[int], None] | None = None,
        batch: int = BATCH,
    ):
        self._args = (stage, settings, clock, effector)
        self._batch = batch
        self._on_exit = on_exit or os._exit
        self._stop = threading.Event()
        self._loop: Loop | None = None
        self._waiting = ""
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._main, name=f"stage-{stage.name}", daemon=True)

    def start(self) -> "StageRunner":
        self._thread.start()
        return self

    def run(self) -> None:
        """Run in the calling thread until stopped; Ended when it ends by itself. Fits
        `Life.thread("stage", runner.run, runner.ask_stop)`."""
        code = self._work()
        if not self._stop.is_set():
            raise Ended(code)

    def ask_stop(self) -> None:
        """Ask the loop to end; returns at once."""
        self._stop.set()

    def stop(self, timeout: float = 10.0) -> int | None:
        """End the loop after its batch; the exit code, None when it did not end in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return self.exit_code

    def ready(self) -> tuple[bool, str]:
        """Whether every partition given to this worker is restored and being processed, and if not, why."""
        loop = self._loop
        if self.exit_code is not None:
            return False, f"the stage ended with code {self.exit_code}"
        if loop is None or not loop.joined:
            return False, self._waiting or "waiting for Kafka to assign partitions"
        restoring = loop.restoring()
        if restoring:
            share = sum(restoring.values()) / len(restoring)
            return False, f"restoring {len(restoring)} of {len(loop.owned)} partitions ({share:.0%})"
        return True, f"processing {len(loop.owned)} partitions"

    def progress(self) -> dict[str, Any]:
        """Per partition: live or how far restored, position, and lag by topic."""
        loop = self._loop
        return {} if loop is None else loop.progress()

    def _work(self) -> int:
        """The stage from its start to its end, whichever thread it has; its exit code."""
        code = run_stage(*self._args, self._stop, self._started, self._batch, self._on_exit, self._waits)
        self.exit_code = code
        return code

    def _started(self, loop: Loop) -> None:
        self._loop = loop

    def _waits(self, why: str) -> None:
        self._waiting = why

    def _main(self) -> None:
        stage, *_ = self._args
        code = self._work()
        if not self._stop.is_set():
            log.error("%s: the loop ended by itself with code %d", stage.name, code)
            self._on_exit(code or FAILED)
