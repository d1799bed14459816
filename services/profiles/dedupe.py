"""Repeats of a message id. Pure.

A message id is remembered for 7 days of receipt time per (workspace, sender), in four slots by its
hash: one state to read an event, whatever the day it first came. (A state per day would have to be
read for each of the last eight days.) What is older than 7 days is cut when its slot is written; a
sweep deletes slots that nobody writes any more.
"""

import hashlib

from services.profiles.model import Seen

SLOTS = 4
WINDOW_MS = 7 * 86_400_000
MAX_ENTRIES = 65_536
"""Message ids of one slot; the oldest is forgotten beyond."""
_EMPTY = Seen()


def digest(message_id: str) -> bytes:
    """8 bytes that stand for a message id."""
    return hashlib.blake2b(message_id.encode(), digest_size=8).digest()


def slot_key(workspace: str, sender: str, digest: bytes) -> str:
    """The state a message id is remembered in."""
    return f"d:{workspace}:{sender}:{digest[7] % SLOTS}"


def pruned(seen: Seen, now: int) -> Seen | None:
    """`seen` without what is 7 days old at `now` (ms); None when nothing is left."""
    times = seen.times
    size = len(times)
    cut = 0
    while cut < size and now - int.from_bytes(times[cut : cut + 4], "big") * 1000 >= WINDOW_MS:
        cut += 4
    if cut == size:
        return None
    return Seen(seen.hashes[cut * 2 :], times[cut:]) if cut else seen


def admit(seen: Seen | None, digest: bytes, now: int) -> tuple[Seen | None, bool]:
    """The slot with this message id added, None when it is a repeat; and whether the oldest entry had
    to be forgotten for it. A message id is a repeat less than 7 days after it came."""
    seen = (pruned(seen, now) if seen is not None else None) or _EMPTY
    hashes = seen.hashes
    at = hashes.find(digest)
    while at >= 0:
        if at % 8 == 0:
            since = int.from_bytes(seen.times[at // 2 : at // 2 + 4], "big") * 1000
            if now - since < WINDOW_MS:
                return None, False
        at = hashes.find(digest, at + 1)
    times = seen.times
    full = len(times) // 4 >= MAX_ENTRIES
    if full:
        hashes, times = hashes[8:], times[4:]
    return Seen(hashes + digest, times + (max(0, now) // 1000).to_bytes(4, "big")), full
