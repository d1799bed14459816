"""Dead letters by topic, from what lies in each partition. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from services.dashboard.model import DeadTopic

SUFFIX = ".dlq"


class Grave(NamedTuple):
    """A partition of a dead-letter topic: its first and end offset, and the reasons of the letters
    between, None where they were too many to read. Offsets also count the marks of transactions."""

    first: int
    end: int
    reasons: Counter[str] | None


def by_topic(graves: Mapping[tuple[str, int], Grave]) -> list[DeadTopic]:
    """What lies in each topic that is not empty, most first."""
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    guessed = set()
    for (topic, _), grave in graves.items():
        name = topic.removesuffix(SUFFIX)
        if grave.reasons is None:
            guessed.add(name)
            counts[name] += grave.end - grave.first
        else:
            counts[name] += grave.reasons.total()
            reasons.setdefault(name, Counter()).update(grave.reasons)
    return [
        DeadTopic(name, n, name not in guessed, dict(reasons.get(name, Counter()).most_common()))
        for name, n in counts.most_common()
        if n
    ]
