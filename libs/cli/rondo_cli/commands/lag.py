"""`rondo lag`: who is behind, and waiting until nobody is."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rondo_cli import output, state
from rondo_cli.backlog import Lag, measure, wait_drained

BUSY_METRIC = "rondo_stream_pending"
"""Gauge in which a process says how much it has begun that no offset shows: calls under way, sweeps,
runs being expanded. Drained means that it is 0 everywhere."""


def lag(wait: bool, timeout: float, json: bool) -> int:
    """Print lag; with `wait` return 1 when it does not drain in `timeout` seconds."""
    found = state.running()
    processes = list(found["services"])

    def look() -> tuple[Sequence[Lag], Sequence[Any]]:
        busy = asyncio.run(_busy(state.running()))
        return measure(found["kafka"], processes), busy

    drained = None
    if wait:
        drained, lags, busy = wait_drained(look, timeout, time.monotonic, time.sleep)
    else:
        lags, busy = look()
    behind = [x for x in lags if not x.zero]
    if json:
        now = not behind and not busy
        output.as_json(
            {
                "drained": now if drained is None else drained,
                "behind": sum(x.behind for x in lags),
                "busy": [{"process": name, "what": what, "count": count} for name, what, count in busy],
                "groups": _by_group(lags),
                "partitions": [asdict(x) for x in behind],
            }
        )
    else:
        rows = [[g["group"], g["topic"], g["behind"], g["open"]] for g in _by_group(lags) if g["behind"] or g["open"]]
        if rows:
            output.as_table("behind", ("group", "topic", "records", "open transactions"), rows)
        if busy:
            output.as_table("under way", ("process", "what", "count"), busy)
        if not rows and not busy:
            print("drained: nothing is behind")
        elif drained is False:
            print(f"not drained after {timeout:g} s")
    return 1 if drained is False else 0


def _by_group(lags: Sequence[Lag]) -> list[dict[str, Any]]:
    out: dict[tuple[str, str], dict[str, Any]] = {}
    for x in lags:
        one = out.setdefault((x.group, x.topic), {"group": x.group, "topic": x.topic, "behind": 0, "open": 0})
        one["behind"] += x.behind
        one["open"] += x.open
        one["estimated"] = one.get("estimated", False) or x.estimated
    return list(out.values())


async def _busy(found: dict[str, Any]) -> list[tuple[str, str, float]]:
    """What processes say is under way. A process that does not answer counts as busy: nobody knows."""
    from rondo_cli.local import probe

    instances = [(name, i) for name, s in found["services"].items() for i in s["instances"]]
    answers = await asyncio.gather(
        *(probe.get(int(i["http"].rpartition(":")[2]), f"/metrics?name[]={BUSY_METRIC}") for _, i in instances)
    )
    out: list[tuple[str, str, float]] = []
    for (name, instance), (status, body) in zip(instances, answers, strict=True):
        if status != 200:
            out.append((f"{name}.{instance['slot']}", "does not answer", 1))
            continue
        for line in body.decode(errors="replace").splitlines():
            if line.startswith(BUSY_METRIC) and not line.startswith("#"):
                metric, _, value = line.rpartition(" ")
                if float(value) > 0:
                    out.append((f"{name}.{instance['slot']}", metric, float(value)))
    return out
