"""How much slower this machine is at the moment than an idle one, and how long tests wait for what is to come."""

import time

PATIENT = 4
"""Waits are this many times longer than what they wait for takes on an idle machine at worst. Patience costs nothing
when it comes, and a test that waits says nothing about time."""
ANSWER_S = 15.0 * PATIENT
"""What an HTTP client of a test waits at most: its library's five seconds are as long as some answers take."""
WORK = 500_000
IDLE_S = 0.03
"""What the work takes on an idle core of the kind that the bounds were set on."""


def slowness() -> float:
    """At least 1: how many times longer a fixed piece of work takes, the waiting for a core included."""
    begun = time.perf_counter()
    for _ in range(5):
        total = 0
        for i in range(WORK):
            total += i
    return max(1.0, (time.perf_counter() - begun) / 5 / IDLE_S)
