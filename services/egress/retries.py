"""When a webhook is tried again. Pure."""

import hashlib

SCHEDULE_S = (30, 5, 300, 1800, 7200, 18000, 36000, 36000)
"""Seconds to wait: before the first answer counts as lost, then after each failure (about a day in all)."""
JITTER = 0.1


def next_try(key: str, tries: int) -> int | None:
    """Milliseconds until the next call after `tries` failures, None when there is none any more. The
    jitter follows from the key, so that a replay waits as long."""
    if tries >= len(SCHEDULE_S):
        return None
    draw = int.from_bytes(hashlib.sha256(f"{key}:{tries}".encode()).digest()[:4], "big") / 2**32
    return round(SCHEDULE_S[tries] * 1000 * (1 + JITTER * draw))
