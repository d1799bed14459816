"""The stage "campaigns": which records come in, which states they touch, who decides about them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from rondo_common import active, topics
from rondo_common.outcomes import Drop, Outcome
from rondo_common.records import Command, MemberEvent, MembershipChange, Move
from rondo_common.stage import Assigned, Input, Record, States, SweepEnd, SweepItem, Timer, Touches
from services.campaigns.handlers import cleaning, commands, expansion, members, outcomes, sends, shares, triggers
from services.campaigns.handlers.outcomes import About
from services.campaigns.model import (
    STATE_TYPES,
    Moved,
    absorbed_key,
    marker_key,
    member_state_key,
    share_key,
)

LANES = (
    (topics.COMMANDS, topics.MOVES),
    (topics.DECISIONS, topics.DELIVERIES, topics.ENGAGEMENT),
    (topics.MEMBERSHIP_CHANGES, topics.MEMBER_EVENTS),
)
STATE_TOPIC = topics.JOURNEYS
NOTHING = Touches()
NOT_NEEDED = frozenset(("page", "screen", "group", "member.updated", "consent.changed", "traits.late", "consent.late"))
"""Kinds of member event, as their header names them, that start, stop and move nothing."""
REPORTS = {topics.DECISIONS: "decision", topics.DELIVERIES: "delivery", topics.ENGAGEMENT: "engagement"}


class Incoming(NamedTuple):
    """A move of this stage as read: what moved, and what a passed-on report says."""

    move: Move
    moved: Moved | None
    about: About | None
    command: Command | None


class CampaignsStage:
    """See `rondo_common.stage.Stage`."""

    name = "campaigns"
    state_topic = STATE_TOPIC
    state_offset = 0
    lanes: Sequence[Sequence[str]] = LANES
    unhurried = frozenset((topics.DECISIONS, topics.DELIVERIES, topics.ENGAGEMENT))
    lane_limit: dict[int, int]
    wall_clock = False
    indexed = frozenset(("m", "t", "d", "r"))
    """Kinds of states that are swept."""
    types: dict[str, type]

    def __init__(self) -> None:
        self.lane_limit = {}
        self.types = {**STATE_TYPES, **active.GLOBAL_TYPES}
        self._command = msgspec.json.Decoder(Command)
        self._about = msgspec.json.Decoder(About)
        self._change = msgspec.json.Decoder(MembershipChange)
        self._event = msgspec.json.Decoder(MemberEvent)
        self._move = msgspec.json.Decoder(Move)
        self._moved = msgspec.json.Decoder(Moved)

    # reading

    def read(self, record: Record) -> Any:
        topic = record.topic
        if topic in REPORTS:
            return self._about.decode(record.value)
        if topic == topics.MEMBER_EVENTS:
            if record.headers.get("ce_type") in NOT_NEEDED:
                return Drop("not_needed")
            return self._event.decode(record.value)
        if topic == topics.MEMBERSHIP_CHANGES:
            return self._change.decode(record.value)
        if topic == topics.MOVES:
            return self._read_move(record.value)
        return self._command.decode(record.value)

    def _read_move(self, value: bytes) -> Incoming:
        move = self._move.decode(value)
        if move.stage != self.name:
            return Incoming(move, None, None, None)
        moved = self._moved.decode(move.state)
        raw = moved.decision or moved.delivery or moved.engagement
        about = self._about.decode(raw) if raw is not None else None
        if about is not None:
            about = msgspec.structs.replace(about, member_id=move.member_id)
        return Incoming(move, moved, about, self._command.decode(moved.command) if moved.command else None)

    # keys

    def touches(self, item: Input, message: Any) -> Touches:
        if isinstance(item, Record):
            return self._touched_by(message)
        if isinstance(item, Timer):
            return Touches(None, _timer_keys(item))
        if isinstance(item, SweepItem):
            return Touches(None, (item.key,))
        return NOTHING

    def _touched_by(self, message: Any) -> Touches:
        if isinstance(message, About):
            return Touches(None, outcomes.keys(message))
        if isinstance(message, MemberEvent):
            return _event_touches(message)
        if isinstance(message, MembershipChange):
            return NOTHING if message.member_id is None else _of_member(message.workspace, message.member_id)
        if isinstance(message, Incoming):
            return self._move_touches(message)
        return _command_touches(message)

    def _move_touches(self, message: Incoming) -> Touches:
        if message.moved is None:
            return NOTHING
        if message.about is not None:
            return Touches(None, outcomes.keys(message.about))
        if message.command is not None:
            return _command_touches(message.command)
        workspace, member_id = message.move.workspace, message.move.member_id
        return _of_member(workspace, member_id, absorbed_key(workspace, member_id))

    # deciding

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if isinstance(item, Record):
            return self._record(item, message, states, now)
        if isinstance(item, Timer):
            return _timer(item, states, now)
        if isinstance(item, SweepItem):
            swept_for_run = item.sweep.startswith("run:")
            return (expansion.on_member if swept_for_run else cleaning.on_item)(item, states, now)
        if isinstance(item, SweepEnd):
            return expansion.on_chunk_end(item, states, now) if item.sweep.startswith("run:") else ()
        if isinstance(item, Assigned):
            return cleaning.on_assigned(states, now)
        return ()

    def _record(self, record: Record, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if isinstance(message, About):
            what = REPORTS[record.topic]
            return outcomes.on_report(what, message, record.value, record.cause, states, now)
        if isinstance(message, MemberEvent):
            return _member_event(message, record, states, now)
        if isinstance(message, MembershipChange):
            if message.change == "live":
                return commands.on_live_marker(states, message.workspace, message.segment, message.version, now)
            return triggers.on_membership(message, states, now)
        if isinstance(message, Incoming):
            if message.moved is None:
                return (Drop("not_mine"),)
            return members.on_move(message.move, message.moved, message.about, record.cause, states, now)
        return _command(message, states, now)


def _of_member(workspace: str, member_id: str, *more: str) -> Touches:
    key = member_state_key(workspace, member_id)
    return Touches(key, (key, *more))


def _event_touches(event: MemberEvent) -> Touches:
    workspace, member_id = event.workspace, event.member_id
    match event.kind:
        case "track" | "member.erased" | "member.created":
            return _of_member(workspace, member_id)
        case "member.merged" if event.merged_into:
            return _of_member(workspace, member_id)
        case "member.merged":
            return Touches(None, (absorbed_key(workspace, member_id),))
        case "inbound.received":
            return Touches(None, (marker_key(sends.stop_touch_id(event), member_id),))
    return NOTHING


def _command_touches(command: Command) -> Touches:
    workspace, member_id, run_id = command.workspace, command.member_id or "", command.run_id or ""
    match command.kind:
        case "trigger":
            return _of_member(workspace, member_id, share_key(workspace, run_id), marker_key(command.id, member_id))
        case "send":
            marker = marker_key(sends.send_touch_id(command), member_id)
            return Touches(None, (member_state_key(workspace, member_id), marker))
        case "run.start":
            return Touches(None, (share_key(workspace, run_id),))
    return NOTHING


def _command(command: Command, states: States, now: int) -> Iterable[Outcome]:
    match command.kind:
        case "definition.activated":
            return commands.on_definition(command, states)
        case "run.start":
            return commands.on_start(command, states, now)
        case "campaign.pause" | "campaign.resume" | "stop.on" | "stop.off":
            return commands.on_stop(command, states, now)
        case "campaign.cancel":
            return commands.on_cancel(command, states, now)
        case "trigger":
            return triggers.on_api(command, states, now)
        case "send":
            return sends.on_send(command, states, now)
    return (Drop("not_mine"),)


def _member_event(event: MemberEvent, record: Record, states: States, now: int) -> Iterable[Outcome]:
    match event.kind:
        case "track":
            return triggers.on_track(event, states, now)
        case "member.merged":
            return members.on_merged(event, states, record.cause, now)
        case "member.erased":
            return members.on_erased(event, states, now)
        case "member.created":
            return members.on_created(event, states)
        case "inbound.received":
            return sends.on_inbound(event, states, now)
    return (Drop("not_needed"),)


def _timer_keys(timer: Timer) -> tuple[str, ...]:
    kind, _, rest = timer.owner.partition(":")
    workspace, _, id = rest.partition(":")
    if kind == "m":
        return (timer.owner, share_key(workspace, timer.payload.decode()))
    if kind == "run" and timer.name == shares.PUBLISH:
        return (share_key(workspace, id),)
    return ()


def _timer(timer: Timer, states: States, now: int) -> Iterable[Outcome]:
    kind, _, rest = timer.owner.partition(":")
    workspace, _, id = rest.partition(":")
    if kind == "m":
        return triggers.on_due(timer, workspace, id, states, now)
    if kind == "run":
        due = expansion.on_publish_timer if timer.name == shares.PUBLISH else expansion.on_start_timer
        return due(states, workspace, id, now)
    return cleaning.on_timer(now)
