"""Numbers side by side: what the system says, what somebody else counted."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Check:
    """`actual` from Rondo, `expected` from `source`: file, recount, oracle, script."""

    name: str
    actual: Any
    expected: Any
    source: str

    @property
    def ok(self) -> bool:
        return bool(self.actual == self.expected)


class Checks:
    """The list of them."""

    def __init__(self) -> None:
        self.all: list[Check] = []

    def add(self, name: str, actual: Any, expected: Any, source: str) -> None:
        self.all.append(Check(name, actual, expected, source))

    @property
    def failed(self) -> list[str]:
        return [c.name for c in self.all if not c.ok]

    def rows(self) -> list[dict[str, Any]]:
        """As .rondo/demo.json has them."""
        return [{**asdict(c), "ok": c.ok} for c in self.all]

    def last_line(self, seconds: float) -> str:
        if self.failed:
            return f"DEMO FAILED {len(self.failed)}/{len(self.all)}: {', '.join(self.failed)}"
        return f"DEMO OK {len(self.all)}/{len(self.all)} checks, {seconds:.0f} s"
