"""Snapshots as pieces of HTML, each put into the pages under its name. Pure.

The same templates make the page that is asked for and what its event stream brings later, so the two
can't differ; the script only puts the pieces in place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rondo_common.clock import iso
from services.dashboard import runs, talks, words
from services.dashboard.model import Service, Snapshot

NAMES = ("nav", "trouble", "tiles", "runs", "waiting", "dead", "services", "stages", "conversations", "announce")
"""Every fragment; each is templates/live/<name>.html."""
CURVE = (100, 24)
"""Size of a small curve, in its own units."""

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {
    "number": words.number,
    "span": words.span,
    "reason": words.reason,
    "channel": words.channel,
    "day_and_time": words.day_and_time,
    "ago": words.ago,
}


def curve(values: Sequence[float]) -> str:
    """Points of an SVG polyline, newest at the right; empty with fewer than two values."""
    if len(values) < 2:
        return ""
    width, height = CURVE
    top = max(*values, 1.0)
    step = width / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{height - 1 - (height - 2) * v / top:.1f}" for i, v in enumerate(values))


environment.filters["curve"] = curve

STATES = {"ready": "ready", "not_ready": "not ready", "silent": "no answer"}


def fragments(snapshot: Snapshot, names: Mapping[str, str]) -> dict[str, str]:
    """Every fragment by its name. `names` of members by member id."""
    found = view(snapshot, names)
    return {name: environment.get_template(f"live/{name}.html").render(found) for name in NAMES}


def view(snapshot: Snapshot, names: Mapping[str, str]) -> dict[str, Any]:
    """What the templates are given."""
    open_talks = talks.ordered(snapshot.conversations, names, snapshot.now)
    unknown, unknown_why = runs.unknown(snapshot.runs)
    silent = {m.name for m in snapshot.missing}
    return {
        "s": snapshot,
        "states": STATES,
        "runs": [runs.row(r) for r in runs.shown(snapshot.runs)],
        "running": sum(r.get("status") in ("running", "paused") for r in snapshot.runs),
        "talks": open_talks,
        "waiting": [t for t in open_talks if t.waiting_s is not None],
        "unknown": unknown,
        "unknown_why": unknown_why,
        "dead_total": sum(d.count for d in snapshot.dead),
        "dead_exact": all(d.exact for d in snapshot.dead),
        "unwell": [s for s in snapshot.services if s.state != "ready"],
        "gone": silent,
        "summary": summary(snapshot),
        "now_text": iso(snapshot.now),
    }


def summary(snapshot: Snapshot) -> str:
    """One sentence for people who hear the page: only what matters, so that it rarely changes."""
    if not snapshot.services:
        return "No service is known."
    unwell = [_said(s) for s in snapshot.services if s.state != "ready"]
    missing = [f"{m.name} can't be read" for m in snapshot.missing]
    if not unwell and not missing:
        return f"All {len(snapshot.services)} services are ready."
    return "; ".join([*unwell, *missing]) + "."


def _said(service: Service) -> str:
    return f"{service.name}: {'no answer' if service.state == 'silent' else 'not ready'}"
