"""Inputs before they are decided: read, and asked what they touch. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from rondo_common.outcomes import DeadLetter, Drop
from rondo_common.stage import Input, Record, Result, Results, Stage, Timer, Touches
from rondo_common.streams.envelope import MAX_DEPTH, depth_of


class Planned(msgspec.Struct, frozen=True, gc=False):
    """An input that was read. `failed` is why it can't be processed, if so."""

    item: Input
    message: Any
    touches: Touches
    now: int
    depth: int
    failed: DeadLetter | None


_NOTHING = Touches()


def plan(stage: Stage, item: Input, clock: int) -> Planned:
    """Decode an input and ask what it touches. `clock` is the batch's reading of the clock (ms)."""
    kind = type(item)
    now, message, depth, failed, touches = clock, None, 0, None, _NOTHING
    if kind is Record:
        if not stage.wall_clock:
            now = item.time
        depth = depth_of(item)
        if depth > MAX_DEPTH:
            return Planned(item, None, touches, now, depth, DeadLetter("loop", f"depth {depth}"))
        try:
            message = stage.read(item)
        except (msgspec.DecodeError, ValueError) as e:
            return Planned(item, None, touches, now, depth, DeadLetter("unreadable", str(e)))
        except Exception as e:
            return Planned(item, None, touches, now, depth, failure(e))
        if type(message) is Drop:
            return Planned(item, message, touches, now, depth, None)
    elif kind is Timer and not stage.wall_clock:
        now = item.due
    try:
        touches = stage.touches(item, message)
    except Exception as e:
        failed = failure(e)
    return Planned(item, message, touches, now, depth, failed)


def plan_all(stage: Stage, items: Sequence[Input], clock: int) -> list[Planned]:
    """`plan` for inputs that are no records; answers in bursts, if the stage takes them so. Two answers to
    one state stay apart: the second has to see what the first did."""
    if not getattr(stage, "together", False):
        return [plan(stage, item, clock) for item in items]
    planned: list[Planned] = []
    burst: list[Result] = []
    for item in (*items, None):
        if type(item) is Result:
            burst.append(item)
            continue
        if burst:
            p = plan(stage, Results(tuple(burst)), clock)
            together = p.failed is None and len(p.touches.keys) == len(burst)
            planned += [p] if together else [plan(stage, result, clock) for result in burst]
            burst = []
        if item is not None:
            planned.append(plan(stage, item, clock))
    return planned


def failure(e: Exception) -> DeadLetter:
    return DeadLetter("handler_error", f"{type(e).__name__}: {e}")
