"""The provider's own log: a line for each call, written before it is answered. The independent eye.

A line: {"at": seconds since 1970, "channel", "touch", "call": 1.., "fate", "taken": bool, "class": ..}.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.stress.provider.faults import TAKEN, Plan


class Ledger:
    """Decides and writes down. One per provider process."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._calls: Counter[str] = Counter()
        self.plans: dict[str, Plan] = {}

    def meet(self, channel: str, touch: str) -> tuple[str, Plan]:
        """A call has come in whole: its fate, written down."""
        self._calls[touch] += 1
        plan = self.plans.get(channel) or Plan()
        fate = plan.decide(touch, self._calls[touch], time.monotonic())
        line = {
            "at": time.time(),
            "channel": channel,
            "touch": touch,
            "call": self._calls[touch],
            "fate": fate,
            "taken": fate in TAKEN,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")
        return fate, plan


def read(path: Path, start: int = 0) -> list[dict[str, Any]]:
    """The lines from byte `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        return [json.loads(line) for line in file]
