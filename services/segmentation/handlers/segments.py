"""A segment's new version: from its activation on members are evaluated by it; a sweep over all
members of the partition brings the rest in step and ends with a live marker."""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from rondo_common import active, ids, topics
from rondo_common import records as rec
from rondo_common.clock import iso
from rondo_common.outcomes import Drop, Emit, Outcome, Save, StartSweep
from rondo_common.stage import States, SweepEnd, SweepItem
from services.segmentation.handlers.members import settle
from services.segmentation.kept import Kept, opened
from services.segmentation.membership import Why
from services.segmentation.model import Active, Live, count_key, live_key, set_key
from services.segmentation.ruleset import RuleSet


def on_command(command: rec.Command, states: States) -> Iterator[Outcome]:
    """definition.activated of a segment; the same version again changes nothing. A newer one starts its
    sweep over, since both have the same name."""
    d = command.definition
    if command.kind != "definition.activated" or d is None or d.kind != "segment":
        yield Drop("not_mine")
        return
    known: rec.Definition | None = states.get(active.latest_key(d.workspace, "segment", d.id))
    if known is not None and known.version >= d.version:
        yield Drop("known_version")
        return
    yield from active.activate(command, states)
    now_active: Active | None = states.get(set_key(d.workspace))
    versions = {**(now_active.versions if now_active else {}), d.id: d.version}
    if d.deleted:
        del versions[d.id]
    key = ids.derived(d.workspace, ",".join(f"{id}@{v}" for id, v in sorted(versions.items())))
    yield Save(set_key(d.workspace), Active(key, versions))
    yield StartSweep(f"{d.workspace}:{d.id}", f"m:{d.workspace}:", msgspec.json.encode([d.id, d.version]))


def on_sweep_item(item: SweepItem, states: States, now: int, rules: RuleSet) -> Iterator[Outcome]:
    """One member met by the sweep: the segment and those that nest it."""
    segment, version = _payload(item.payload)
    _, workspace, member_id = item.key.split(":", 2)
    found: Kept | None = states.get(item.key)
    d = states.get(active.latest_key(workspace, "segment", segment))
    if found is None or d is None or d.version != version:
        yield Drop("superseded")
        return
    if not found.counts and not found.inside:
        yield Drop("does_not_count")
        return
    why = Why(f"{item.cause}:{version}", "backfill", now, historical=True, backfill=True)
    yield from settle(workspace, member_id, opened(found), rules, (segment, *rules.dependents(segment)), why, states)


def on_sweep_end(item: SweepEnd, states: States, now: int) -> Iterator[Outcome]:
    """Every member of this partition has been evaluated under the version."""
    segment, version = _payload(item.payload)
    workspace = item.sweep.partition(":")[0]
    d = states.get(active.latest_key(workspace, "segment", segment))
    if d is None or d.version != version:
        yield Drop("superseded")
        return
    at = iso(now)
    yield Save(live_key(workspace, segment), Live(version, at, d.deleted))
    if d.deleted:
        yield Save(count_key(workspace, segment), None)
    id = ids.derived(item.cause, f"live:{version}:{states.partition}")
    yield Emit(
        topics.MEMBERSHIP_CHANGES,
        f"{workspace}:segment:{segment}",
        rec.MembershipChange(workspace, segment, version, "live", at, at, id, historical=True, cause="backfill"),
        "segment.live",
        id,
        partition=states.partition,
    )


@lru_cache(maxsize=1024)
def _payload(payload: bytes) -> tuple[str, int]:
    segment, version = msgspec.json.decode(payload)
    return segment, version
