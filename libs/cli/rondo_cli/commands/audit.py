"""`rondo audit`: accepted, logged and applied ids of a time range compared; holes and repeats named."""

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rondo_cli import output, state
from rondo_cli.audit import checks, reading
from rondo_cli.audit.checks import Count, Finding
from rondo_cli.audit.ledger import Ledger
from rondo_cli.errors import Failure
from rondo_cli.local.plan import bootstrap_of
from rondo_common.clock import from_iso, iso

CLEAN, FOUND = 0, 1


def audit(
    from_: str | None, to: str | None, accepted: str | None, workspace: str | None, limit: int, json: bool
) -> int:
    """Print the report; 0 when nothing is wrong, 1 with findings."""
    wanted = reading.Range(_instant("--from", from_), _instant("--to", to), workspace)
    if wanted.start is not None and wanted.stop is not None and wanted.start >= wanted.stop:
        raise Failure("--from must lie before --to", 2)
    ids = _ids(accepted) if accepted is not None else iter(())
    begun = time.monotonic()
    log = reading.look(bootstrap_of(state.read()), wanted)
    with Ledger() as ledger:
        reading.fill(ledger, log, wanted, ids)
        counts, under_way = checks.counts(ledger, accepted is not None), checks.waiting(ledger)
        now = int(time.time() * 1000)
        found = itertools.chain(checks.findings(ledger, now, wanted.start or 0), reading.broker_findings(log))
        shown, total = list(itertools.islice(found, limit)), 0
        total = len(shown) + sum(1 for _ in found)
    seconds = time.monotonic() - begun
    (_as_json if json else _as_text)(wanted, counts, under_way, shown, total, seconds)
    return FOUND if total else CLEAN


def _instant(name: str, text: str | None) -> int | None:
    try:
        return None if text is None else from_iso(text)
    except ValueError as e:
        raise Failure(f"{name} {text!r}: {e}", 2) from e


def _ids(name: str) -> Iterator[str]:
    """One id a line; blank lines and spaces around count nothing."""
    if name != "-" and not Path(name).is_file():
        raise Failure(f"there is no file {name!r}", 2)
    return _lines(name)


def _lines(name: str) -> Iterator[str]:
    lines = sys.stdin if name == "-" else open(name, encoding="utf-8")  # noqa: SIM115 - closed below
    with lines:
        yield from (id for line in lines if (id := line.strip()))


def _as_json(
    wanted: reading.Range, counts: list[Count], under_way: list[Count], shown: list[Finding], total: int, seconds: float
) -> None:
    body: dict[str, Any] = {
        "from": None if wanted.start is None else iso(wanted.start),
        "to": None if wanted.stop is None else iso(wanted.stop),
        "workspace": wanted.workspace,
        "clean": not total,
        "counts": {c.name: c.count for c in counts},
        "under_way": {c.name: c.count for c in under_way},
        "findings": total,
        "data": [asdict(f) for f in shown],
        "seconds": round(seconds, 1),
    }
    output.as_json(body)


def _as_text(
    wanted: reading.Range, counts: list[Count], under_way: list[Count], shown: list[Finding], total: int, seconds: float
) -> None:
    start = "the beginning" if wanted.start is None else iso(wanted.start)
    print(f"from {start} to {'now' if wanted.stop is None else iso(wanted.stop)}, read in {seconds:.1f} s")
    output.as_table("", ("what", "count", ""), [[c.name, c.count, c.about] for c in counts])
    if rows := [[c.name, c.count, c.about] for c in under_way if c.count]:
        output.as_table("under way", ("what", "count", ""), rows)
    if not total:
        print("clean: nothing is missing and nothing came twice")
        return
    rows = [[f.check, f"{f.topic}:{f.partition}:{f.offset}" if f.topic else "", f.id, f.detail] for f in shown]
    output.as_table(f"{total} findings", ("finding", "topic:partition:offset", "id", "what"), rows)
    if total > len(shown):
        print(f"... and {total - len(shown)} more; --limit shows more of them")
