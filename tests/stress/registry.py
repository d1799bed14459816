"""The cases: number (as in the list of faults), title, what it must hold, how big a part of the events it gets.

@case("4", "kill -9 delivery, faulty provider", share=8)
def run(lab: Lab, n: int) -> Outcome: ...
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.stress.lab import Lab


@dataclass
class Outcome:
    """What a case saw. `lost`: accepted and not in the log, or in the log and without its effect.
    `repeated`: effects beyond the first. `unknown`: sends whose fate nobody can know, at most `bound`.
    `wrong`: what else is not as it must be. `figure`: the case's own number, in words."""

    n: int
    lost: int = 0
    repeated: int = 0
    unknown: int = 0
    bound: int = 0
    takeover: float | None = None
    figure: str = ""
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def must(self, holds: object, words: str) -> None:
        """Note `words` as wrong unless it holds."""
        if not holds:
            self.wrong.append(words)

    def add(self, other: "Outcome") -> None:
        """Count another outcome in (a second look of the same case)."""
        self.lost += other.lost
        self.repeated += other.repeated
        self.unknown += other.unknown
        self.bound += other.bound
        self.wrong += other.wrong
        self.notes += other.notes

    def took(self, seconds: float) -> None:
        """A takeover was seen; the longest one stands."""
        self.takeover = max(self.takeover or 0.0, seconds)

    @property
    def good(self) -> bool:
        return not (self.lost or self.repeated or self.wrong) and self.unknown <= self.bound


@dataclass(frozen=True)
class Case:
    """One case. `share`: its part of all events, beside the other shares. `least`: fewer events show nothing.
    `alone`: it starts servers of its own, so the shared ones are ended before."""

    number: str
    title: str
    share: float
    least: int
    alone: bool
    run: Callable[["Lab", int], Outcome]


CASES: dict[str, Case] = {}


def case(
    number: str, title: str, share: float = 0.0, least: int = 0, alone: bool = False
) -> Callable[[Callable[["Lab", int], Outcome]], Callable[["Lab", int], Outcome]]:
    """Registers a case."""

    def register(run: Callable[["Lab", int], Outcome]) -> Callable[["Lab", int], Outcome]:
        assert number not in CASES, number
        CASES[number] = Case(number, title, share, least, alone, run)
        return run

    return register


def load() -> dict[str, Case]:
    """All cases, in order of their numbers; those with servers of their own come last."""
    from tests.stress.cases import (  # noqa: F401
        broker,
        conformance,
        disk,
        fences,
        ingress,
        instances,
        partition,
        poison,
        provider,
        records,
        redis,
        shutdown,
        topics,
        workers,
    )

    return dict(sorted(CASES.items(), key=lambda item: (item[1].alone, int(item[0]))))


def sizes(cases: dict[str, Case], events: int) -> dict[str, int]:
    """How many events each case gets of `events`, by its share among all cases that exist."""
    whole = sum(c.share for c in cases.values())
    return {n: max(c.least, round(events * c.share / whole)) if c.share else c.least for n, c in cases.items()}


COLUMNS = ("case", "N", "lost", "repeated", "unknown", "takeover", "seconds", "")


def line(case: Case, out: Outcome, seconds: float) -> str:
    """The one line of a case."""
    unknown = f"{out.unknown}/{out.bound}" if out.bound or out.unknown else "0"
    takeover = "-" if out.takeover is None else f"{out.takeover:.1f}"
    verdict = "ok" if out.good else "FAILED"
    words = f"{case.title}; {out.figure}" if out.figure else case.title
    return (
        f"{case.number:>4} {out.n:>7} {out.lost:>5} {out.repeated:>8} {unknown:>9} {takeover:>8} {seconds:>7.1f}"
        f"  {verdict:<6} {words}"
    )


def heading() -> str:
    return f"{'case':>4} {'N':>7} {'lost':>5} {'repeated':>8} {'unknown':>9} {'takeover':>8} {'seconds':>7}"


def document(case: Case, out: Outcome, seconds: float) -> dict[str, Any]:
    """The same for --json."""
    return {"case": case.number, "title": case.title, "good": out.good, "seconds": round(seconds, 1), **asdict(out)}
