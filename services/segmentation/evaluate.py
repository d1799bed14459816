"""Compiles a rule into a program that says whether it holds for a member at an instant, and until when.

    program = compile_rule(rule, address_id, lookup)
    holds, until = program.test(Facts(member, member_id, at))

`until` (NEVER = for ever) is the earliest instant after `at` at which the answer could be another one
if nothing more is heard of the member: on [at, until) it is the same. Programs are trees of closures
with the facts of a member at the leaves. Pure.
"""

from collections.abc import Callable, Iterable
from typing import Any

from services.segmentation import rules as r
from services.segmentation.leaf import AddressId, Answer, Facet, Facts, Leaf
from services.segmentation.leaves import EventLeaf, TraitLeaf
from services.segmentation.leaves_contact import BucketLeaf, ConsentLeaf, ReachableLeaf
from services.segmentation.model import NEVER, Member

Test = Callable[[Facts], Answer]
Lookup = Callable[[str], "Program | None"]
"""The program of another segment; None when there is none (it then holds nobody)."""

LOOK = 1_000
"""Evaluations spent on finding the exact instant of the next or the last change."""


class Program:
    """A compiled rule. `leaves` are in the order of the rule; `facets` are the facts it depends on, also
    through nested segments."""

    def __init__(self, test: Test, leaves: list[Leaf]):
        self.test = test
        self.leaves = leaves
        self.facets: frozenset[Facet] = frozenset().union(*(leaf.facets for leaf in leaves))

    def holds(self, member: Member, member_id: str, at: int) -> bool:
        return self.test(Facts(member, member_id, at))[0]

    def until(self, member: Member, member_id: str, at: int) -> Answer:
        """The answer at `at` and the first instant after it at which the answer is another one. `test`
        may name an earlier one, at which the answer stays."""
        truth, until = self.test(Facts(member, member_id, at))
        for _ in range(LOOK):
            if until == NEVER:
                break
            then, later = self.test(Facts(member, member_id, until))
            if then != truth:
                break
            until = later
        return truth, until

    def since(self, member: Member, member_id: str, at: int) -> int | None:
        """Since when the answer has been the one of `at`, by the times of the facts as known now; the
        first fact looked at when it was never another one, None when there is no such fact."""
        truth = self.holds(member, member_id, at)
        since = None
        points = sorted({p for leaf in self.leaves for p in leaf.points(member, member_id) if p <= at}, reverse=True)
        for p in points[:LOOK]:
            if self.holds(member, member_id, p) != truth:
                return since
            since = p
        return since


class SegmentLeaf(Leaf):
    """Membership of another segment: its rule, evaluated at the same instant."""

    def __init__(self, node: r.Segment, lookup: Lookup):
        self.pointer = node.pointer
        self._id = node.id
        self._program = lookup(node.id)
        self.facets = self._program.facets if self._program else frozenset()

    def test(self, facts: Facts) -> Answer:
        if self._program is None:
            return False, NEVER
        answer = facts.memo.get(self._id)
        if answer is None:
            answer = facts.memo[self._id] = self._program.test(facts)
        return answer

    def inputs(self, facts: Facts) -> dict[str, Any]:
        return {"segment": self._id, "in": self.test(facts)[0]}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        if self._program is not None:
            for leaf in self._program.leaves:
                yield from leaf.points(member, member_id)


def compile_rule(rule: r.Node, address_id: AddressId, lookup: Lookup) -> Program:
    """The program of a rule. `lookup` gives the programs of nested segments."""
    leaves: list[Leaf] = []

    def build(node: r.Node) -> Test:
        match node:
            case r.And(parts=parts):
                return _all([build(part) for part in parts])
            case r.Or(parts=parts):
                return _any([build(part) for part in parts])
            case r.Not(part=part):
                return _not(build(part))
        leaf = _leaf(node, address_id, lookup)
        leaves.append(leaf)
        return leaf.test

    return Program(build(rule), leaves)


def _leaf(node: r.Node, address_id: AddressId, lookup: Lookup) -> Leaf:
    match node:
        case r.Trait():
            return TraitLeaf(node)
        case r.Event() | r.Message():
            return EventLeaf(node)
        case r.Consent():
            return ConsentLeaf(node)
        case r.Reachable():
            return ReachableLeaf(node, address_id)
        case r.Segment():
            return SegmentLeaf(node, lookup)
        case r.Bucket():
            return BucketLeaf(node)
    raise TypeError(f"not a part of a rule: {type(node).__name__}")


def _all(parts: list[Test]) -> Test:
    """False as long as one part is: until the last of the false ones may change."""

    def test(facts: Facts) -> Answer:
        until, false_until = NEVER, -NEVER
        for part in parts:
            holds, u = part(facts)
            if not holds:
                if u == NEVER:
                    return False, NEVER
                false_until = max(false_until, u)
            elif u < until:
                until = u
        return (True, until) if false_until == -NEVER else (False, false_until)

    return test


def _any(parts: list[Test]) -> Test:
    """True as long as one part is."""

    def test(facts: Facts) -> Answer:
        until, true_until = NEVER, -NEVER
        for part in parts:
            holds, u = part(facts)
            if holds:
                if u == NEVER:
                    return True, NEVER
                true_until = max(true_until, u)
            elif u < until:
                until = u
        return (False, until) if true_until == -NEVER else (True, true_until)

    return test


def _not(part: Test) -> Test:
    def test(facts: Facts) -> Answer:
        holds, until = part(facts)
        return not holds, until

    return test
