"""Commands that come to every partition: definitions, start, pause, resume, cancel, the stop switch."""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rondo_common import active
from rondo_common.clock import from_iso
from rondo_common.outcomes import CancelTimer, DeadLetter, Drop, Outcome, Save, SetTimer, StopSweep
from rondo_common.records import Command
from rondo_common.stage import States
from services.campaigns.bodies import CampaignBody, campaign_of
from services.campaigns.handlers import expansion, shares
from services.campaigns.model import Cut, Live, RunShare, TriggerIndex, cut_key, index_key, live_key, run_owner

KINDS = frozenset(("campaign", "template", "segment"))
"""Definitions this stage keeps."""
SWITCH = ("stop.on", "stop.off")


class StartData(msgspec.Struct, omit_defaults=True):
    """`data` of a run.start: `segment` addresses it, `due` is its RFC 3339 time, `data` its trigger.*;
    `kind` broadcast or triggered."""

    kind: str
    due: str | None = None
    segment: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]


def on_definition(command: Command, states: States) -> Iterator[Outcome]:
    """A definition's version becomes active in this partition."""
    if command.definition is None or command.definition.kind not in KINDS:
        yield Drop("not_mine")
        return
    yield from active.activate(command, states)


def on_start(command: Command, states: States, now: int) -> Iterator[Outcome]:
    """A run begins: at once, at its time, or when its segment is known; a triggered one is open."""
    workspace, run_id = command.workspace, command.run_id or ""
    if shares.find(states, workspace, run_id) is not None:
        yield Drop("repeat")
        return
    definition = active.exact(states, workspace, "campaign", command.campaign or "", command.version or 0)
    if definition is None:
        # its activation was written to this partition before the start: it can't come any more
        yield DeadLetter("unknown_version", f"{command.campaign}@{command.version}")
        return
    body = campaign_of(definition)
    start = msgspec.json.decode(command.data or b'{"kind":"broadcast"}', type=StartData)
    yield from active.stop(command)
    at = from_iso(command.at)
    run = RunShare(
        run_id=run_id,
        campaign=definition.id,
        version=definition.version,
        kind=start.kind,
        phase="open" if start.kind == "triggered" else "waiting",
        started_at=at,
        due=from_iso(start.due) if start.due else at,
        segment=start.segment,
        data=start.data,
        lane=_lane(start.kind, body),
        changed_at=at,
    )
    if run.kind == "triggered":
        yield Save(index_key(workspace), _indexed(states.get(index_key(workspace)), body, run_id))
    elif run.due > now:
        yield SetTimer(run_owner(workspace, run_id), shares.START, run.due)
    paused = _paused_after(command, states, run)
    begun = expansion.begin(states, workspace, run, now, paused)
    yield from shares.keep(states, workspace, begun or run, now, publish=True, paused=paused)


def on_stop(command: Command, states: States, now: int) -> Iterator[Outcome]:
    """campaign.pause, campaign.resume, stop.on, stop.off: flags, and what they hold or let go on. Touches
    already written are held and let go by the gate and by delivery."""
    yield from active.stop(command)
    workspace = command.workspace
    for run in shares.active_runs(states, workspace, None if command.kind in SWITCH else command.campaign):
        paused = _paused_after(command, states, run)
        begun = expansion.begin(states, workspace, run, now, paused)
        yield from shares.keep(states, workspace, begun or run, now, publish=True, paused=paused)


def _paused_after(command: Command, states: States, run: RunShare) -> bool:
    """Whether a run is paused once `command`, whose flags are not yet in `states`, has taken effect."""
    workspace, kind = command.workspace, command.kind
    if kind in SWITCH:
        flag = states.get(active.stop_key(workspace, run.campaign))
        own, switch = flag is not None and flag.state == "paused", kind == "stop.on"
    else:
        own, switch = kind == "campaign.pause", states.get(active.stop_key(workspace, "*")) is not None
    body = shares.body_of(states, workspace, run)
    return own or (switch and (body is None or body.class_ != "transactional"))


def on_cancel(command: Command, states: States, now: int) -> Iterator[Outcome]:
    """campaign.cancel: nothing more comes of its runs. Touches already written are skipped by the gate
    or cancelled by delivery, which the counts learn from their records."""
    workspace, campaign = command.workspace, command.campaign or ""
    yield from active.stop(command)
    yield Save(cut_key(workspace, campaign), Cut(now))
    index: TriggerIndex | None = states.get(index_key(workspace))
    for run in shares.active_runs(states, workspace, campaign):
        if run.sweeping:
            yield StopSweep(shares.sweep_name(workspace, run))
        if run.phase == "waiting":
            yield CancelTimer(run_owner(workspace, run.run_id), shares.START)
        if run.kind == "triggered" and index is not None:
            index = _without(index, run.run_id)
        over = replace(run, phase="cancelled", sweeping=False, changed_at=max(now, run.changed_at))
        yield from shares.keep(states, workspace, over, now, publish=True, paused=False)
    if index is not None and index != states.get(index_key(workspace)):
        yield Save(index_key(workspace), index)


def on_live_marker(states: States, workspace: str, segment: str, version: int, now: int) -> Iterator[Outcome]:
    """Every member of this partition has been evaluated under a version of a segment."""
    known: Live | None = states.get(live_key(workspace, segment))
    if known is not None and known.version >= version:
        yield Drop("known")
        return
    yield Save(live_key(workspace, segment), Live(version, now))
    for run in shares.active_runs(states, workspace):
        if run.phase != "waiting" or run.segment != segment:
            continue
        paused = shares.is_paused(states, workspace, run)
        begun = expansion.begin(states, workspace, run, now, paused, live=version)
        if begun is not None:
            yield from shares.keep(states, workspace, begun, now, publish=True, paused=False)


def _lane(kind: str, body: CampaignBody) -> str:
    """An audience gone over in one go is bulk, whatever the campaign's type."""
    if body.class_ == "transactional":
        return "transactional"
    return "bulk" if kind == "broadcast" else "triggered"


def _indexed(index: TriggerIndex | None, body: CampaignBody, run_id: str) -> TriggerIndex:
    index = index or TriggerIndex()
    trigger = body.trigger
    if trigger is None or trigger.api:
        return index
    if trigger.event:
        runs = (*index.events.get(trigger.event, ()), run_id)
        return replace(index, events={**index.events, trigger.event: runs})
    segment = trigger.segment or ""
    return replace(index, segments={**index.segments, segment: (*index.segments.get(segment, ()), run_id)})


def _without(index: TriggerIndex, run_id: str) -> TriggerIndex:
    def rest(by: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        left = {name: tuple(r for r in runs if r != run_id) for name, runs in by.items()}
        return {name: runs for name, runs in left.items() if runs}

    return TriggerIndex(rest(index.events), rest(index.segments))
