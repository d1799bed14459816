"""What a leaf of a rule is: does it hold for a member at an instant, and until when. Pure.

Each leaf answers `test(facts) -> (holds, until)`: `until` is the first instant after `facts.at` at
which the answer changes if nothing more is heard of the member (NEVER: it doesn't), `inputs(facts)`
what it looked at, and `points(member)` every instant at which its answer may change.
"""

from collections.abc import Callable, Iterable
from typing import Any

from services.segmentation.measures import STEPS
from services.segmentation.model import NEVER, Member

Answer = tuple[bool, int]
Facet = tuple[str, str]
"""A kind of fact a rule looks at: ("event", name), ("trait", field), ("consent", channel),
("message", action), ("suppression", channel)."""
AddressId = Callable[[str, str], str]
"""(kind of identifier, value) -> its id in the workspace."""


class Facts:
    """A member at an instant. `memo` keeps answers of nested segments within one evaluation."""

    __slots__ = ("at", "member", "member_id", "memo")

    def __init__(self, member: Member, member_id: str, at: int):
        self.member = member
        self.member_id = member_id
        self.at = at
        self.memo: dict[str, Answer] = {}


class Leaf:
    """A compiled leaf. `facets` are the kinds of fact that may change its answer."""

    pointer: str
    facets: frozenset[Facet] = frozenset()

    def test(self, facts: Facts) -> Answer:
        raise NotImplementedError

    def inputs(self, facts: Facts) -> dict[str, Any]:
        raise NotImplementedError

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        return ()


def first_change(holds: Callable[[int], bool], at: int, points: Iterable[int]) -> Answer:
    """The answer at `at` and the first of `points` after it where it is another one."""
    truth = holds(at)
    for n, t in enumerate(sorted({p for p in points if p > at})):
        if n >= STEPS or holds(t) != truth:
            return truth, t
    return truth, NEVER


def at_time(history: list[tuple[int, Any]], at: int) -> Any:
    """The value of a history in force at `at`; None before its first entry."""
    if history[-1][0] <= at:
        return history[-1][1]
    found = None
    for t, value in history:
        if t > at:
            break
        found = value
    return found
