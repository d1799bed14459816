"""What a loop says of itself, for people, metrics and readiness; from any thread."""

from collections import deque
from typing import Any

from rondo_common.stage import Result, Stage
from rondo_common.streams import metrics
from rondo_common.streams.effector import Claim
from rondo_common.streams.inputs import Inputs
from rondo_common.streams.owned import Clients, Owned


class Report:
    """Base of the loop: reads what the loop keeps, changes nothing."""

    _stage: Stage
    _c: Clients
    _inputs: Inputs
    _answers: deque[tuple[Claim, Result]]
    owned: dict[int, Owned]

    def positions(self) -> dict[int, int]:
        """Live partitions and where their views stand."""
        return {p: o.position for p, o in self.owned.items() if o.position is not None}

    def restoring(self) -> dict[int, float]:
        """Partitions that are being restored, and how far (0 to 1)."""
        return dict(self._c.restorer.progress())

    def progress(self) -> dict[str, Any]:
        """What each partition is at, for people and metrics; from any thread."""
        restoring = self.restoring()
        lags: dict[int, dict[str, int]] = {}
        for queue in list(self._inputs.queues.values()):
            lags.setdefault(queue.partition, {})[queue.topic] = self._c.idle.lag_of(queue)
        return {
            str(p): {"live": o.position is not None, "position": o.position, "lag": lags.get(p, {})}
            | ({"restored": restoring[p]} if p in restoring else {})
            for p, o in list(self.owned.items())
        }

    def pending(self) -> dict[str, int]:
        """Work that no offset shows, by kind; from any thread. All 0 and no lag: the stage is idle."""
        owned = list(self.owned.values())
        clock, effector = self._c.clock.now(), self._c.effector
        dues = [o.memory.next_due for o in owned if o.memory.next_due is not None]
        return {
            "tasks": len(self._answers) + (effector.in_flight() if effector is not None else 0),
            "inputs": sum(len(o.pending) for o in owned),
            "sweeps": sum(len(o.memory.sweeps) for o in owned),
            "timers": sum(due <= clock for due in dues),
            "restoring": sum(o.position is None for o in owned),
        }

    def _count_partitions(self) -> None:
        live = sum(o.position is not None for o in self.owned.values())
        metrics.LIVE.labels(self._stage.name).set(live)
        metrics.RESTORING.labels(self._stage.name).set(len(self.owned) - live)
