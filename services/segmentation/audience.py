"""Counts whom a rule holds, member by member. Pure."""

from typing import Any

from services.segmentation.evaluate import Program
from services.segmentation.leaf import Facts
from services.segmentation.model import NEVER, Member


class Tally:
    """Add every member of a workspace, then read the answer. Samples are those with the smallest ids."""

    def __init__(self, program: Program, at: int, samples: int):
        self._program, self._at, self._most = program, at, samples
        self._count = self._anonymous = 0
        self._leaves = [0] * len(program.leaves)
        self._samples: list[tuple[str, str | None]] = []

    def add(self, member_id: str, member: Member) -> None:
        """Evaluate one member, every leaf for itself."""
        facts = Facts(member, member_id, self._at)
        for i, leaf in enumerate(self._program.leaves):
            if leaf.test(facts)[0]:
                self._leaves[i] += 1
        if not self._program.test(facts)[0]:
            return
        self._count += 1
        self._anonymous += member.user_id is None
        self._samples.append((member_id, member.user_id))
        if len(self._samples) > 2 * self._most + 100:
            self._trim()

    def _trim(self) -> None:
        self._samples = sorted(self._samples, key=lambda s: s[0])[: self._most]

    def answer(self) -> dict[str, Any]:
        """count, anonymous, samples and leaves of WIRE 4."""
        self._trim()
        pairs = zip(self._program.leaves, self._leaves, strict=True)
        return {
            "count": self._count,
            "anonymous": self._anonymous,
            "samples": [{"member_id": m, "user_id": u} for m, u in self._samples],
            "leaves": [{"pointer": leaf.pointer, "count": count} for leaf, count in pairs],
        }


def explain(program: Program, member: Member, member_id: str, at: int) -> tuple[bool, int | None, list[dict[str, Any]]]:
    """Whether the rule holds at `at`, the first instant at which that changes (None: never, as far as is
    known), and what each leaf says and looked at."""
    holds, until = program.until(member, member_id, at)
    facts = Facts(member, member_id, at)
    leaves = [
        {"pointer": leaf.pointer, "value": leaf.test(facts)[0], "inputs": leaf.inputs(facts)} for leaf in program.leaves
    ]
    return holds, None if until == NEVER else until, leaves
