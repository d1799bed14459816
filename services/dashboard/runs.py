"""Runs as the page shows them: the unfinished ones first, each with a bar of its seven counts. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.dashboard import words

FINISHED_SHOWN = 5
OVER = ("finished", "cancelled")
SETTLED = ("sent", "skipped", "failed", "unknown")
"""Counts of touches with which nothing more will happen."""


class Part(NamedTuple):
    """A piece of the bar: which count, how many, where it begins and how long it is (percent)."""

    name: str
    label: str
    count: int
    x: float
    width: float


class Reason(NamedTuple):
    """Why some touches have their count."""

    text: str
    count: int


class RunRow(NamedTuple):
    """One run. `done` in percent of its touches; `audience` members."""

    id: str
    campaign: str
    kind: str
    status: str
    started_at: str
    audience: int
    touches: int
    done: int
    counts: list[Part]
    reasons: list[tuple[str, list[Reason]]]
    engagement: list[tuple[str, int]]
    rate: float | None
    eta_s: float | None


def merged(known: Mapping[str, dict[str, Any]], newest: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All runs heard of, the newest answers over the older ones."""
    return {**known, **{r["run_id"]: r for r in newest}}


def shown(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every run that is not over, then the last few that are; each group newest first."""
    ordered = sorted(runs, key=lambda r: str(r.get("started_at")), reverse=True)
    going = [r for r in ordered if r.get("status") not in OVER]
    return going + [r for r in ordered if r.get("status") in OVER][:FINISHED_SHOWN]


def row(run: dict[str, Any]) -> RunRow:
    """A run of the API as a row of the page."""
    counts = {name: int(run.get("counts", {}).get(name, 0)) for name in words.COUNTS}
    touches = int(run.get("touches") or 0)
    parts, x = [], 0.0
    for name, label in words.COUNTS.items():
        width = 100.0 * counts[name] / touches if touches else 0.0
        parts.append(Part(name, label, counts[name], round(x, 3), round(width, 3)))
        x += width
    reasons = [
        (label, [Reason(words.reason(code), n) for code, n in sorted(why.items(), key=lambda i: -i[1])])
        for name, label in words.COUNTS.items()
        if (why := (run.get("reasons") or {}).get(name))
    ]
    settled = sum(counts[name] for name in SETTLED)
    # never 100 % while one is open
    done = 100 * settled // touches if touches else (100 if run.get("status") == "finished" else 0)
    return RunRow(
        id=run["run_id"],
        campaign=str(run.get("campaign", "")),
        kind=str(run.get("kind") or ""),
        status=str(run.get("status") or ""),
        started_at=str(run.get("started_at") or ""),
        audience=int(run.get("audience") or 0),
        touches=touches,
        done=done,
        counts=parts,
        reasons=reasons,
        engagement=[
            (words.ENGAGEMENT.get(k, k.replace("_", " ")), n) for k, n in (run.get("engagement") or {}).items()
        ],
        rate=run.get("rate_per_s"),
        eta_s=run.get("eta_s"),
    )


def unknown(runs: Iterable[dict[str, Any]]) -> tuple[int, dict[str, int]]:
    """How many touches have an unknown outcome, and why."""
    total, why = 0, dict[str, int]()
    for run in runs:
        total += int(run.get("counts", {}).get("unknown", 0))
        for code, n in (run.get("reasons") or {}).get("unknown", {}).items():
            why[words.reason(code)] = why.get(words.reason(code), 0) + n
    return total, why
