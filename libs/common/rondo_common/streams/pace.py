"""How often a worker commits. Pure.

A transaction costs the broker nearly the same whatever it holds: it pays for the partitions written to, some
10 ms of CPU for a stage that writes to all of its own and of several outputs. So the more records come the
longer a worker gathers: few at a time are hardly held up, and under load the broker's share of a
record falls instead of growing with the pace (docs/decisions/0011-gathering-under-load.md).
"""

LEAST_S = 0.025
"""Between two transactions when few records come, or when there is work beyond what a batch may hold."""
RECORD_S = 0.001
"""Longer by this for each record of the last batch."""
MOST_S = 0.2
UNHURRIED_S = 0.2
"""How long records wait for others that nobody is waiting for (`Stage.unhurried`)."""


BEHIND_CALLS_S = 0.1
"""The most while the effector makes calls: their answers make room for new ones."""


def gather_s(inputs: int, more: bool, least: float = LEAST_S, line_s: float | None = None) -> float:
    """Least seconds from the last batch's beginning to the next one's. `inputs` is how many the last one
    handled; `more`: not all at hand, so that gathering would only hold things up. `least` is the stage's
    own LEAST_S, where nobody waits for what it does. `line_s`: for how long the effector has calls to make; the
    next ones must be there in time, and until then what is at hand can't be begun, so it does not hurry."""
    gathered = min(MOST_S, least + inputs * RECORD_S)
    if line_s is not None:
        return max(least, min(gathered, line_s / 2, BEHIND_CALLS_S))
    return least if more else gathered
