"""One stream stage in a process of its own, as its service runs it, until it has nothing left to do.

    python -m tests.bench.stage_worker STAGE [NAME=PID ...]          settings: RONDO_* variables

Prints one line of JSON: records and other inputs handled, seconds and CPU seconds from after its first batch to
its last, of this process and of the named ones, transactions, resident MiB. Delivery decides, renders and writes
ahead as ever, but its calls are answered at once, by nobody.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from rondo_common import telemetry
from rondo_common.clock import Clock
from rondo_common.outcomes import Perform
from rondo_common.settings import Settings
from rondo_common.stage import Stage
from rondo_common.streams.effector import Answers, Claim, Effector
from rondo_common.streams.runner import StageRunner
from services.campaigns.streams import CampaignsStage
from services.delivery.main import parts_of
from services.delivery.model import Answer, Call, Verdict
from services.delivery.settings import DeliverySettings
from services.delivery.streams import DeliveryStage
from services.egress.streams import EgressStage
from services.profiles.streams import ProfilesStage
from services.rhythm.streams import RhythmStage
from services.segmentation.streams import SegmentationStage
from tests.bench.baselines.copy_loop import cpu
from tests.support.toy_stage import ToyStage

LOOK_S = 0.02
CALM_S = 0.5
"""Without work for so long, it is done."""
PATIENCE_S = 120.0


class Nobody:
    """Takes every call at once."""

    def start(self, answers: Answers) -> None:
        self._answers = answers

    def submit(self, claim: Claim, performs: Sequence[Perform]) -> None:
        for perform in performs:
            if isinstance(perform.task, Call):
                self._answers(claim, perform.id, Answer(Verdict.ACCEPTED, "nobody", provider_id=perform.id))

    def capacity(self) -> int:
        return 500

    def in_flight(self) -> int:
        return 0

    def stop(self) -> None: ...


def _delivery(settings: Settings) -> Stage:
    return DeliveryStage(parts_of("email", settings, DeliverySettings()), settings.partitions)


STAGES: dict[str, Callable[[Settings], Stage]] = {
    "toy": lambda _: ToyStage("toy", log=0),
    "profiles": lambda s: ProfilesStage(s.secret),
    "segmentation": lambda s: SegmentationStage(s.secret),
    "campaigns": lambda _: CampaignsStage(),
    "rhythm": lambda s: RhythmStage(s.secret),
    "delivery-email": _delivery,
    "egress": lambda _: EgressStage(),
}


def total(name: str, **labels: str) -> float:
    """Sum of one of this process's own metrics over all labels but the given ones."""
    family = name.removesuffix("_total")
    samples = (s for f in telemetry.REGISTRY.collect() if f.name == family for s in f.samples if s.name == name)
    return sum(s.value for s in samples if all(s.labels.get(k) == v for k, v in labels.items()))


class Watch:
    """Looks at the running stage from the main thread."""

    def __init__(self, runner: StageRunner, watched: dict[str, int]):
        self._runner = runner
        self._processes = {"stage": psutil.Process(), **{n: psutil.Process(pid) for n, pid in watched.items()}}

    def look(self) -> dict[str, Any]:
        return {
            "at": time.perf_counter(),
            "records": total("rondo_stream_records_total"),
            "inputs": total("rondo_stream_inputs_total"),
            "transactions": total("rondo_stream_transactions_total", outcome="committed"),
            "cpu": cpu(self._processes),
        }

    def until_idle(self) -> dict[str, Any]:
        """What was done between the first batch and the last one. TimeoutError when it does not end."""
        deadline = time.monotonic() + PATIENCE_S
        begun: dict[str, Any] | None = None
        last = before = self.look()
        while True:
            time.sleep(LOOK_S)
            if time.monotonic() > deadline or self._runner.exit_code is not None:
                raise TimeoutError(f"the stage did not come to an end: {self._runner.ready()}, {last}")
            if total("rondo_stream_inputs_total") != last["inputs"]:
                last = self.look()
            elif begun and time.perf_counter() - last["at"] > CALM_S and self._idle():
                break
            if begun is None and last["records"]:
                begun = last
            elif begun is None:
                before = self.look()
        if begun is last:  # all in one batch
            begun = before
        found = {k: last[k] - begun[k] for k in ("records", "inputs", "transactions")}
        found["seconds"] = last["at"] - begun["at"]
        found["cpu"] = {name: s - begun["cpu"][name] for name, s in last["cpu"].items()}
        found["emitted"] = total("rondo_stream_emitted_total")
        found["dead"] = total("rondo_stream_dead_letters_total")
        found["rss"] = self._processes["stage"].memory_info().rss / 2**20
        return found

    def _idle(self) -> bool:
        lag = sum(sum(p["lag"].values()) for p in self._runner.progress().values())
        return self._runner.ready()[0] and not lag and not total("rondo_stream_pending")


def main(name: str, watched: dict[str, int]) -> None:
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(service=name)
    stage = STAGES[name](settings)
    effector: Effector | None = Nobody() if name.startswith("delivery") else None
    runner = StageRunner(stage, settings, Clock(), effector).start()
    print(json.dumps(Watch(runner, watched).until_idle()), flush=True)
    runner.stop()
    os._exit(0)


if __name__ == "__main__":
    pairs = (word.split("=") for word in sys.argv[2:])
    main(sys.argv[1], {n: int(pid) for n, pid in pairs})
