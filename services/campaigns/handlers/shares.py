"""Keeping and publishing a run's share, and what its change sets going: the next part of an expansion,
the end of a run."""

from collections.abc import Iterator

from msgspec.structs import replace

from rondo_common import active, ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit, Outcome, Save, SetTimer, StartSweep
from rondo_common.records import RunPart
from rondo_common.stage import States
from services.campaigns.bodies import CampaignBody, campaign_of
from services.campaigns.model import RunShare, run_key, run_owner, share_key
from services.campaigns.run_counts import on_their_way, outstanding, shown

CHUNKS = "0123456789abcdef"
"""An expansion goes over the members by the first digit of their ids, one part after the other, so
that it can be held between two parts."""
SLICE = 500
"""Members of one transaction; with `all`, fewer, so that touches stay within 1,000."""
AHEAD = 1_500
"""The next part waits while so many of the partition's touches are on their way, that is undecided or
let through but not yet delivered (STREAMS 24: about 2 s of a run over all partitions)."""
PUBLISH_MS = 1_000
PUBLISH = "publish"
START = "start"


def find(states: States, workspace: str, run_id: str) -> RunShare | None:
    """This partition's share of a run. The input must name `share_key` among its keys."""
    hot: RunShare | None = states.get(run_key(workspace, run_id))
    return hot if hot is not None else states.get(share_key(workspace, run_id))


def active_runs(states: States, workspace: str, campaign: str | None = None) -> list[RunShare]:
    """Runs of the workspace, or of one campaign, that are not at their end here."""
    runs = (run for _, run in states.globals(f"g:run:{workspace}:"))
    return [run for run in runs if campaign is None or run.campaign == campaign]


def body_of(states: States, workspace: str, run: RunShare) -> CampaignBody | None:
    """The campaign version a run goes by; None when this partition never saw it."""
    definition = active.exact(states, workspace, "campaign", run.campaign, run.version)
    return None if definition is None else campaign_of(definition)


def is_paused(states: States, workspace: str, run: RunShare) -> bool:
    body = body_of(states, workspace, run)
    return active.stopped(states, workspace, run.campaign, body.class_ if body else "") == "paused"


def part(states: States, workspace: str, run: RunShare, now: int, paused: bool) -> Emit:
    """The share as rondo.runs.v1 has it. Record keyed workspace:run:partition, in this partition."""
    status = "running" if run.phase in ("open", "expanding") else run.phase
    if paused and status in ("waiting", "running"):
        status = "paused"
    value = RunPart(
        workspace=workspace,
        run_id=run.run_id,
        campaign=run.campaign,
        version=run.version,
        status=status,
        started_at=iso(max(run.started_at, run.due)),
        audience=run.audience,
        touches=run.touches,
        counts=shown(run.counts),
        reasons={b: by for b, by in run.reasons.items() if by},
        engagement=run.engagement,
        last_change=iso(run.changed_at) if run.changed_at else None,
    )
    id = ids.derived(f"{workspace}:{run.run_id}:{states.partition}:{now}", "part")
    return Emit(
        topics.RUNS, f"{workspace}:{run.run_id}:{states.partition}", value, "run.part", id, partition=states.partition
    )


def keep(
    states: States,
    workspace: str,
    run: RunShare,
    now: int,
    before: RunShare | None = None,
    publish: bool = False,
    paused: bool | None = None,
) -> Iterator[Outcome]:
    """Store a share that changed. Goes on with an expansion that may, moves a run that is done out of
    the globals, and publishes: at once when asked or when, other than `before`, nothing is on its way
    any more; else within a second."""
    goes_on = run.phase == "expanding" and not run.sweeping and on_their_way(run) < AHEAD
    ended = run.kind == "api" or run.phase in ("expanded", "cancelled")
    if ended and before is not None and not on_their_way(run) and on_their_way(before):
        publish = True
    held = paused
    if held is None and (goes_on or publish):
        held = is_paused(states, workspace, run)
    if goes_on and not held:
        run = replace(run, sweeping=True)
        yield sweep(workspace, run, body_of(states, workspace, run))
    if publish:
        run = replace(run, dirty=False)
        yield part(states, workspace, run, now, bool(held))
    elif not run.dirty:
        run = replace(run, dirty=True)
        yield SetTimer(run_owner(workspace, run.run_id), PUBLISH, now + PUBLISH_MS)
    hot = run_key(workspace, run.run_id)
    if _is_active(run):
        yield Save(hot, run)
        return
    yield Save(share_key(workspace, run.run_id), run)
    if states.get(hot) is not None:
        yield Save(hot, None)


def _is_active(run: RunShare) -> bool:
    """Whether the run is one of the globals: it may still emit, or has open touches here."""
    if run.kind == "api" or run.phase == "cancelled":
        return False
    return run.phase != "expanded" or outstanding(run) > 0


def sweep(workspace: str, run: RunShare, body: CampaignBody | None) -> StartSweep:
    """Begin with the run's current part of the members."""
    each = body.touches_each if body else 1
    prefix = f"m:{workspace}:{CHUNKS[run.chunk]}"
    return StartSweep(
        sweep_name(workspace, run), prefix, f"{workspace} {run.run_id}".encode(), max(1, min(SLICE, 1000 // each))
    )


def sweep_name(workspace: str, run: RunShare) -> str:
    return f"run:{workspace}:{run.run_id}:{run.chunk}"


def new_share(
    run_id: str, campaign: str, version: int, kind: str, phase: str, started_at: int, lane: str = "triggered"
) -> RunShare:
    """A share with nothing in it."""
    return RunShare(run_id, campaign, version, kind, phase, started_at, due=started_at, lane=lane)
