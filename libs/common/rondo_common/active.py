"""Definitions as each partition knows them (STREAMS 20). Pure.

A definition's version becomes active in a partition when that partition's copy of its
`definition.activated` command is handled; from then on it is part of the partition's state, under
a global key. Start, pause, resume, cancel and the stop switch work the same way.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common.outcomes import Outcome, Save
from rondo_common.records import Command, Definition
from rondo_common.stage import States

EVERY_VERSION = ("campaign", "template")
"""Kinds of which older versions stay reachable: a run goes on with the version it started with."""


class StopFlag(msgspec.Struct, omit_defaults=True, frozen=True):
    """`state` is paused or cancelled; `run_ids` of the runs cancelled (empty: the whole campaign)."""

    state: str
    at: str


def latest_key(workspace: str, kind: str, id: str) -> str:
    return f"g:def:{workspace}:{kind}:{id}"


def version_key(workspace: str, kind: str, id: str, version: int) -> str:
    return f"g:ver:{workspace}:{kind}:{id}:{version}"


def stop_key(workspace: str, campaign: str) -> str:
    """Flag of a campaign; campaign "*" is the stop switch of the workspace."""
    return f"g:stop:{workspace}:{campaign}"


GLOBAL_TYPES: dict[str, type] = {"g:def": Definition, "g:ver": Definition, "g:stop": StopFlag}
"""Struct types of these globals by two-part prefix (see `Stage.types`)."""


def activate(command: Command, states: States) -> Iterator[Outcome]:
    """State changes of a `definition.activated` command. An older version than the active one only
    becomes reachable by its number."""
    d = command.definition
    if d is None:
        raise ValueError("definition.activated without a definition")
    if d.kind in EVERY_VERSION:
        yield Save(version_key(d.workspace, d.kind, d.id, d.version), d)
    now = states.get(latest_key(d.workspace, d.kind, d.id))
    if now is None or now.version < d.version:
        yield Save(latest_key(d.workspace, d.kind, d.id), d)


def stop(command: Command) -> Iterator[Outcome]:
    """State changes of campaign.pause, campaign.resume, campaign.cancel, stop.on and stop.off."""
    key = stop_key(command.workspace, "*" if command.kind.startswith("stop.") else command.campaign or "")
    match command.kind:
        case "campaign.pause" | "stop.on":
            yield Save(key, StopFlag("paused", command.at))
        case "campaign.cancel":
            yield Save(key, StopFlag("cancelled", command.at))
        case "campaign.resume" | "stop.off" | "run.start":
            yield Save(key, None)


def stopped(states: States, workspace: str, campaign: str, class_: str) -> str | None:
    """paused, cancelled or None. The stop switch pauses everything but transactional messages."""
    flag = states.get(stop_key(workspace, campaign))
    if flag is not None:
        return flag.state
    if class_ != "transactional" and states.get(stop_key(workspace, "*")) is not None:
        return "paused"
    return None


def latest(states: States, workspace: str, kind: str, id: str) -> Definition | None:
    """The active version of a definition in this partition; None when there is none or it is deleted."""
    d: Definition | None = states.get(latest_key(workspace, kind, id))
    return None if d is None or d.deleted else d


def every(states: States, workspace: str, kind: str) -> Iterator[Definition]:
    """Active definitions of a kind, in order of their ids."""
    for _, d in states.globals(f"g:def:{workspace}:{kind}:"):
        if not d.deleted:
            yield d


def exact(states: States, workspace: str, kind: str, id: str, version: int) -> Any:
    """A stated version, None when this partition has not seen it yet (then `Wait`)."""
    return states.get(version_key(workspace, kind, id, version))
