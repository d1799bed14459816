"""From a broadcast to its touches: waiting for its time and its segment, going over the members."""

from collections.abc import Iterator

from msgspec.structs import replace

from rondo_common import active
from rondo_common.outcomes import DeadLetter, Drop, Outcome, Save
from rondo_common.stage import States, SweepEnd, SweepItem, Timer
from services.campaigns.bodies import campaign_of
from services.campaigns.handlers import shares
from services.campaigns.model import MemberState, RunShare, live_key, run_key
from services.campaigns.run_counts import planned
from services.campaigns.touch_making import broadcast_touches, end_marker


def begin(
    states: States, workspace: str, run: RunShare, now: int, paused: bool, live: int | None = None
) -> RunShare | None:
    """The run as it begins to expand; None while its time has not come, its segment's members are not
    all known here, or its campaign is paused. `live`: version of the segment just heard to be known."""
    # topics are not read in order of time: that the run's time had come may have been seen before
    if run.phase != "waiting" or max(now, run.changed_at) < run.due or paused:
        return None
    segment = active.latest(states, workspace, "segment", run.segment or "")
    known = states.get(live_key(workspace, run.segment or ""))
    version = live if live is not None else known.version if known is not None else 0
    if not version or (segment is not None and version < segment.version):
        return None
    return replace(run, phase="expanding")


def on_start_timer(states: States, workspace: str, run_id: str, now: int) -> Iterator[Outcome]:
    """The scheduled time of a run has come."""
    run: RunShare | None = states.get(run_key(workspace, run_id))
    begun = begin(states, workspace, run, now, shares.is_paused(states, workspace, run)) if run else None
    if run is None or run.phase != "waiting":
        yield Drop("run_over")
        return
    yield from shares.keep(states, workspace, begun or replace(run, changed_at=now), now, publish=begun is not None)


def on_publish_timer(states: States, workspace: str, run_id: str, now: int) -> Iterator[Outcome]:
    """A second has passed since the share changed first after it was published."""
    run = shares.find(states, workspace, run_id)
    if run is None or not run.dirty:
        yield Drop("published")
        return
    yield from shares.keep(states, workspace, run, now, publish=True)


def on_member(item: SweepItem, states: States, now: int) -> Iterator[Outcome]:
    """One member met by a run's sweep."""
    workspace, run_id = names_of(item)
    run: RunShare | None = states.get(run_key(workspace, run_id))
    if run is None or run.phase != "expanding":
        yield Drop("run_over")
        return
    member: MemberState | None = states.get(item.key)
    if member is None or run.segment not in member.segments or member.merged_into or member.erased:
        return
    definition = active.exact(states, workspace, "campaign", run.campaign, run.version)
    if definition is None:
        yield DeadLetter("unknown_version", f"{run.campaign}@{run.version}")
        return
    member_id = item.key.split(":", 2)[2]
    yield from broadcast_touches(states, workspace, run, definition, member_id)
    # stored as it is: publishing and going on come with the end of the sweep
    yield Save(run_key(workspace, run_id), planned(run, campaign_of(definition).touches_each, now))


def on_chunk_end(item: SweepEnd, states: States, now: int) -> Iterator[Outcome]:
    """All members of one part were met: go on with the next, or write the end marker."""
    workspace, run_id = names_of(item)
    run: RunShare | None = states.get(run_key(workspace, run_id))
    if run is None or run.phase != "expanding":
        yield Drop("run_over")
        return
    if run.chunk + 1 < len(shares.CHUNKS):
        yield from shares.keep(states, workspace, replace(run, chunk=run.chunk + 1, sweeping=False), now)
        return
    body = shares.body_of(states, workspace, run)
    if body is not None:
        yield end_marker(states, workspace, run, body)
    after = replace(run, phase="expanded", sweeping=False, changed_at=max(now, run.changed_at))
    yield from shares.keep(states, workspace, after, now, publish=True)


def names_of(item: SweepItem | SweepEnd | Timer) -> tuple[str, str]:
    """Workspace and run id from the payload of a run's sweep."""
    workspace, run_id = item.payload.decode().split(" ")
    return workspace, run_id
