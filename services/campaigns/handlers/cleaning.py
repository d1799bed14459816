"""Once a day: states that nothing will ask for any more are deleted."""

from collections.abc import Iterator

from rondo_common.outcomes import Outcome, Save, SetTimer, StartSweep
from rondo_common.stage import States, SweepItem
from services.campaigns.model import JANITOR_KEY, Janitor, Marker, RunShare, TouchState
from services.campaigns.run_counts import outstanding
from services.campaigns.touch_progress import OPEN

DAY = 86_400_000
OWNER = "janitor"
TIMER = "clean"
KEEP_MS = {"t": 30 * DAY, "d": 8 * DAY, "r": 400 * DAY}
"""How long after its last change: touches at their end (opens come late), markers of commands (longer
than a producer repeats), runs."""


def on_assigned(states: States, now: int) -> Iterator[Outcome]:
    """Set the daily timer up, once for ever."""
    if states.get(JANITOR_KEY) is None:
        yield Save(JANITOR_KEY, Janitor(now + DAY))
        yield SetTimer(OWNER, TIMER, now + DAY)


def on_timer(now: int) -> Iterator[Outcome]:
    """Begin to clean; the next time is a day later."""
    for kind in KEEP_MS:
        yield StartSweep(f"{OWNER}:{kind}", f"{kind}:", b"", 500)
    yield Save(JANITOR_KEY, Janitor(now + DAY))
    yield SetTimer(OWNER, TIMER, now + DAY)


def on_item(item: SweepItem, states: States, now: int) -> Iterator[Outcome]:
    """Delete what is at its end and old enough."""
    state = states.get(item.key)
    match state:
        case TouchState(bucket=bucket, at=at):
            old = bucket not in OPEN and at + KEEP_MS["t"] <= now
        case Marker(at=at):
            old = at + KEEP_MS["d"] <= now
        case RunShare(changed_at=at):
            old = not outstanding(state) and at + KEEP_MS["r"] <= now
        case _:
            old = False
    if old:
        yield Save(item.key, None)
