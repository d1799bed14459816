"""What a provider does with a call: take it, or one of the faults of real ones. Pure, and decided by a seed:
the n-th call of a message always meets the same fate, whatever else goes on."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

TAKE = "take"
BUSY = "busy"
"""429 with Retry-After (SMTP: 451). Not taken."""
ERROR = "error"
"""500 before it is taken (SMTP: 451, the protocol's word for it). Not taken."""
ERROR_TAKEN = "error_taken"
"""Taken, then 500 (SMTP: the line is cut before the answer)."""
LATE = "late"
"""Taken; the answer comes when nobody waits for it any more."""
SILENT = "silent"
"""Taken; no answer ever comes."""
RESET = "reset"
"""The line is cut after the body. Not taken."""
RESET_TAKEN = "reset_taken"
"""Taken, then the line is cut."""

TAKEN = frozenset((TAKE, ERROR_TAKEN, LATE, SILENT, RESET_TAKEN))
AMBIGUOUS = frozenset((ERROR, ERROR_TAKEN, LATE, SILENT, RESET, RESET_TAKEN))
"""Fates after which a caller can't know by itself whether the message was taken."""

THIRTEEN_PERCENT = {BUSY: 0.05, ERROR: 0.02, ERROR_TAKEN: 0.02, LATE: 0.02, RESET: 0.01, RESET_TAKEN: 0.01}


@dataclass
class Plan:
    """How a channel's provider behaves. `shares` of calls by fate; `limit` calls taken a second, above it BUSY
    with `retry_after` seconds (0: no limit); `fate` is every call's, whatever the shares; each answer takes `slow`
    seconds."""

    shares: dict[str, float] = field(default_factory=dict)
    limit: float = 0.0
    retry_after: int = 1
    fate: str = ""
    slow: float = 0.0
    seed: int = 0
    _room: float = 0.0
    _at: float = 0.0

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Plan":
        return cls(**body)

    def decide(self, touch: str, call: int, now: float) -> str:
        """The fate of the `call`-th call of a touch at `now` (seconds of any monotonic clock)."""
        if self.limit and not self._has_room(now):
            return BUSY
        if self.fate:
            return self.fate
        x = int.from_bytes(blake2b(f"{self.seed}:{touch}:{call}".encode(), digest_size=6).digest(), "big") / 2**48
        for fate, share in self.shares.items():
            if x < share:
                return fate
            x -= share
        return TAKE

    def _has_room(self, now: float) -> bool:
        """A bucket that holds one second's worth."""
        self._room = min(self.limit, self._room + (now - self._at) * self.limit) if self._at else self.limit
        self._at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True
