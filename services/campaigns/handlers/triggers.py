"""Triggered campaigns: what lets a member enter, delays, and what calls them off."""

from collections.abc import Generator, Iterator

import msgspec
from msgspec.structs import replace

from rondo_common import active, ids, topics
from rondo_common.clock import from_iso
from rondo_common.durations import parse_duration
from rondo_common.outcomes import CancelTimer, DeadLetter, Drop, Emit, Outcome, Save, SetTimer
from rondo_common.records import Command, MemberEvent, MembershipChange, Move
from rondo_common.stage import States, Timer
from services.campaigns.bodies import CampaignBody, campaign_of
from services.campaigns.event_match import matches
from services.campaigns.handlers import shares
from services.campaigns.model import (
    Cut,
    Marker,
    MemberState,
    Moved,
    Pending,
    RunShare,
    TriggerIndex,
    cut_key,
    index_key,
    marker_key,
    member_state_key,
    run_key,
)
from services.campaigns.reentry import may_enter, remembers
from services.campaigns.run_counts import planned
from services.campaigns.touch_making import make_touches

MAX_AGE_MS = 86_400_000
"""A change of membership older than this starts nothing, unless the campaign says otherwise."""
MOST_HOPS = 8

_NONE: list[Outcome] = []
_Entered = tuple[MemberState, list[Outcome]]


def on_track(event: MemberEvent, states: States, now: int) -> Iterator[Outcome]:
    """A member did something: it calls off delayed triggers, then lets enter."""
    workspace, member_id = event.workspace, event.member_id
    key = member_state_key(workspace, member_id)
    before: MemberState = states.get(key) or MemberState()
    if before.merged_into:
        yield Drop("merged")
        return
    member = replace(before, erased=False) if before.erased else before
    member, outcomes = _called_off(event, states, member, key, now) if member.pending else (member, _NONE)
    index: TriggerIndex | None = states.get(index_key(workspace))
    runs = () if index is None or event.historical else index.events.get(event.name or "", ())
    at = from_iso(event.timestamp) if runs else now
    for run_id in runs:
        run: RunShare | None = states.get(run_key(workspace, run_id))
        body = shares.body_of(states, workspace, run) if run else None
        if run is None or body is None or body.trigger is None:
            continue
        if not _young(body, at, now, None) or not matches(body.trigger.where, event.properties, at):
            continue
        occurrence = event.event_id or event.id
        entry = Pending(
            run_id,
            run.campaign,
            run.version,
            occurrence,
            "triggered",
            now + body.delay_ms,
            now,
            at,
            event.properties,
            run.data,
        )
        member = yield from _enter(states, workspace, member_id, member, run, body, entry, now)
    yield from outcomes
    yield from _saved(key, before, member)


def on_membership(change: MembershipChange, states: States, now: int) -> Iterator[Outcome]:
    """A member entered or left a segment."""
    workspace, member_id = change.workspace, change.member_id or ""
    key = member_state_key(workspace, member_id)
    before: MemberState = states.get(key) or MemberState()
    entered = change.change == "entered"
    if before.merged_into:
        yield Drop("merged")
        return
    segments = {s: v for s, v in before.segments.items() if s != change.segment}
    if entered:
        segments[change.segment] = change.version
    member = replace(before, segments=segments, erased=before.erased and not entered)
    index: TriggerIndex | None = states.get(index_key(workspace))
    runs = () if index is None or change.historical else index.segments.get(change.segment, ())
    at = from_iso(change.at)
    for run_id in runs:
        run: RunShare | None = states.get(run_key(workspace, run_id))
        body = shares.body_of(states, workspace, run) if run else None
        if run is None or body is None or body.trigger is None or body.trigger.on != change.change:
            continue
        if not _young(body, at, now, MAX_AGE_MS):
            continue
        entry = Pending(
            run_id, run.campaign, run.version, change.id, "triggered", now + body.delay_ms, now, at, data=run.data
        )
        member = yield from _enter(states, workspace, member_id, member, run, body, entry, now)
    yield from _saved(key, before, member)


def on_api(command: Command, states: States, now: int, hops: int = 0) -> Iterator[Outcome]:
    """A campaign is triggered for one member by the API. A repeat of the command does nothing."""
    workspace, member_id, run_id = command.workspace, command.member_id or "", command.run_id or ""
    marker = marker_key(command.id, member_id)
    if states.get(marker) is not None:
        yield Drop("repeat")
        return
    key = member_state_key(workspace, member_id)
    before: MemberState = states.get(key) or MemberState()
    yield Save(marker, Marker(now))
    if before.merged_into:
        yield from passed_on(command, before.merged_into, member_id, now, hops)
        return
    definition = active.exact(states, workspace, "campaign", command.campaign or "", command.version or 0)
    if definition is None:
        yield DeadLetter("unknown_version", f"{command.campaign}@{command.version}")
        return
    body = campaign_of(definition)
    known = shares.find(states, workspace, run_id)
    run = known or shares.new_share(run_id, definition.id, definition.version, "api", "open", from_iso(command.at))
    run = replace(run, lane="transactional" if body.class_ == "transactional" else "triggered")
    entry = Pending(
        run_id, run.campaign, run.version, command.id, "api", now + body.delay_ms, now, now, data=command.data
    )
    member = yield from _enter(states, workspace, member_id, before, run, body, entry, now)
    yield from _saved(key, before, member)


def passed_on(command: Command, winner: str, member_id: str, now: int, hops: int) -> Iterator[Outcome]:
    """A command for a member that was merged goes on to the one it was merged into."""
    if hops >= MOST_HOPS:
        yield DeadLetter("hops", f"{hops} merges in a row")
        return
    onward = msgspec.structs.replace(command, member_id=winner)
    state = msgspec.Raw(msgspec.json.encode(Moved(command=msgspec.Raw(msgspec.json.encode(onward)))))
    move = Move("campaigns", command.workspace, member_id, winner, now, state, hops + 1)
    id = ids.derived(command.id, f"move:{winner}")
    yield Emit(topics.MOVES, ids.member_key(command.workspace, winner), move, "state.moved", id, winner)


def on_due(timer: Timer, workspace: str, member_id: str, states: States, now: int) -> Iterator[Outcome]:
    """The delay of a trigger is over. `timer.name` is the name of the pending trigger."""
    key = member_state_key(workspace, member_id)
    member: MemberState | None = states.get(key)
    entry = member.pending.get(timer.name) if member else None
    if member is None or entry is None:
        yield Drop("called_off")
        return
    run = shares.find(states, workspace, entry.run_id)
    if run is None and entry.kind == "api":
        run = shares.new_share(entry.run_id, entry.campaign, entry.version, "api", "open", entry.entered_at)
    body = shares.body_of(states, workspace, run) if run else None
    rest = replace(member, pending={n: p for n, p in member.pending.items() if n != timer.name})
    yield from _saved(key, member, rest)
    if run is None or body is None:
        yield Drop("run_over")
        return
    cut: Cut | None = states.get(cut_key(workspace, entry.campaign))
    stopped = run.phase == "cancelled" or (cut is not None and entry.entered_at <= cut.at)
    if entry.void or stopped or member.merged_into or member.erased:
        if entry.kind == "api":
            yield from _ended(states, workspace, run, now)
        else:
            yield Drop("called_off")
        return
    yield from _touched(states, workspace, member_id, run, body, entry, now)


def call_off(member: MemberState, key: str, names: list[str], now: int) -> _Entered:
    """Take delayed triggers off a member. One of an API run stays, void, until its end is counted."""
    pending, outcomes = dict(member.pending), list[Outcome]()
    for name in names:
        entry = pending.pop(name)
        if entry.kind == "api":
            pending[name] = replace(entry, void=True, due=now)
            outcomes.append(timer_of(key, name, pending[name]))
        else:
            outcomes.append(CancelTimer(key, name))
    return replace(member, pending=pending), outcomes


def timer_of(key: str, name: str, entry: Pending) -> SetTimer:
    """The timer of a delayed trigger; its payload names the run."""
    return SetTimer(key, name, entry.due, entry.run_id.encode())


def _called_off(event: MemberEvent, states: States, member: MemberState, key: str, now: int) -> _Entered:
    """Delayed triggers that this event cancels: those entered by an earlier or simultaneous one."""
    names = []
    for name, p in member.pending.items():
        if p.void:
            continue
        definition = active.exact(states, event.workspace, "campaign", p.campaign, p.version)
        trigger = campaign_of(definition).trigger if definition else None
        stop = trigger.cancel_on if trigger else None
        at = from_iso(event.timestamp)
        if stop and stop.event == event.name and at >= p.event_at and matches(stop.where, event.properties, at):
            names.append(name)
    return call_off(member, key, names, now)


def _enter(
    states: States,
    workspace: str,
    member_id: str,
    member: MemberState,
    run: RunShare,
    body: CampaignBody,
    entry: Pending,
    now: int,
) -> Generator[Outcome, None, MemberState]:
    """Let a member enter, if the campaign's rule allows: now, or after its delay. Returns its new state."""
    if not may_enter(body, member.entries.get(run.campaign), now):
        yield Drop("reentry")
        if entry.kind == "api":
            yield from _ended(states, workspace, run, now)
        return member
    if remembers(body):
        member = replace(member, entries={**member.entries, run.campaign: now})
    if entry.due > now:
        name = f"{entry.run_id} {entry.occurrence}"
        member = replace(member, pending={**member.pending, name: entry})
        yield timer_of(member_state_key(workspace, member_id), name, entry)
        if entry.kind == "api" and not run.changed_at:
            yield from shares.keep(states, workspace, replace(run, changed_at=now), now)
        return member
    yield from _touched(states, workspace, member_id, run, body, entry, now)
    return member


def _touched(
    states: States, workspace: str, member_id: str, run: RunShare, body: CampaignBody, entry: Pending, now: int
) -> Iterator[Outcome]:
    yield from make_touches(
        states,
        workspace,
        run,
        body,
        member_id,
        entry.occurrence,
        now,
        run.lane,
        now=now,
        data=entry.data,
        event=entry.event,
    )
    after = planned(run, body.touches_each, now)
    if entry.kind == "api":
        after = replace(after, handled=after.handled + 1)
    yield from shares.keep(states, workspace, after, now, before=run)


def _ended(states: States, workspace: str, run: RunShare, now: int) -> Iterator[Outcome]:
    """An API trigger that gives no touch."""
    after = replace(run, handled=run.handled + 1, changed_at=max(now, run.changed_at))
    yield from shares.keep(states, workspace, after, now, publish=True)


def _young(body: CampaignBody, at: int, now: int, default: int | None) -> bool:
    """Whether what happened at `at` may still start the campaign; `default` ms unless it says."""
    age = parse_duration(body.trigger.max_age) if body.trigger and body.trigger.max_age else default
    return age is None or now - at <= age


def _saved(key: str, before: MemberState, after: MemberState) -> Iterator[Outcome]:
    if after is not before and after != before:
        yield Save(key, None if after.empty else after)
