"""When to come again: retries, and what to do about a call of unknown outcome. Pure."""

from enum import StrEnum
from hashlib import blake2b

SOON = 250
"""Wait (ms) after a call that never began for a passing reason."""
SOONEST_MOST = 5_000


def spread(wait: int, touch_id: str, calls: int) -> int:
    """`wait` (ms) moved by up to a quarter either way, the same for the same touch and call, so that
    many retries do not come at one instant and a replay sets the same timers."""
    seed = int.from_bytes(blake2b(f"{touch_id}:{calls}".encode(), digest_size=4).digest(), "big")
    return max(1, wait + (seed % 1001 - 500) * wait // 2000)


def retry_wait(waits: tuple[int, ...], tries: int, touch_id: str, calls: int, after: int | None) -> int | None:
    """Wait (ms) before the next try, after `tries` times "later" from the provider; never shorter than
    the provider's own wish `after`. None: enough, the message is rejected."""
    if tries > len(waits):
        return None
    return max(spread(waits[tries - 1], touch_id, calls), after or 0)


def unsent_wait(touch_id: str, calls: int, after: int | None) -> int:
    """Wait (ms) after a call that did not get through: short, growing with the calls made so far. The
    send's window ends this."""
    return max(spread(min(SOON * 2 ** min(calls, 6), SOONEST_MOST), touch_id, calls), after or 0)


class Next(StrEnum):
    """What a reconcile step does."""

    ASK = "ask"
    AGAIN = "again"
    REST = "rest"
    """Stays unknown; a later callback still settles it."""


def reconcile(step: int, steps: int, class_: str, askable: bool) -> Next:
    """Step `step` of `steps` (the last is the end of the window). Asking comes first, also at the end;
    what can't be asked, or was asked in vain, follows the policy of its class: transactional messages
    are sent again, others are not (DESIGN 4.4)."""
    if askable and step < steps - 1:
        return Next.ASK
    return Next.AGAIN if class_ == "transactional" else Next.REST


ABSENT_AFTER = 2
"""Look-ups that must miss a message, each at its own step, before it counts as not taken."""
