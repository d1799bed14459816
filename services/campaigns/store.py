"""What the gRPC side reads: run definitions, whether a campaign is paused, and shares of runs."""

import asyncio
from typing import Any, Protocol

import msgspec

from rondo_common import active
from rondo_common.clock import from_iso
from rondo_common.problems import unavailable
from rondo_common.records import Definition
from rondo_common.streams.view import Unavailable
from services.campaigns.bodies import campaign_of
from services.campaigns.model import run_key, share_key
from services.campaigns.run_view import Part, RunFacts

RUN = "run"
CONTROL = "control"
"""Kind of definition that holds a campaign's `Control`, under the campaign's id."""


class Definitions(Protocol):
    """The part of rondo_common.definitions.DefinitionStore that is used here."""

    def get(self, workspace: str, kind: str, id: str, version: int | None = None) -> Definition | None: ...

    def versions(self, workspace: str, kind: str, id: str) -> list[Definition]: ...

    def list(self, workspace: str, kind: str) -> list[Definition]: ...

    async def put(
        self, workspace: str, kind: str, id: str, body: dict[str, Any], actor: str = "", if_version: int | None = None
    ) -> Definition: ...


class Views(Protocol):
    """The part of rondo_common.streams.view.AsyncStateView that is used here."""

    partitions: int

    async def get_many(self, partition: int, state_keys: list[str]) -> list[Any]: ...


class RunBody(msgspec.Struct, omit_defaults=True, frozen=True):
    """Body of a run's definition. `due` is when it begins; `members` how many an API trigger names."""

    campaign: str
    version: int
    kind: str
    started_at: str
    due: str | None = None
    segment: str | None = None
    members: int | None = None


class Control(msgspec.Struct, frozen=True):
    """Whether a campaign may send. `state`: active, paused, cancelled. `open_run`: the run of a triggered
    campaign that is open."""

    state: str = "active"
    open_run: str | None = None


def run_facts(definition: Definition) -> RunFacts:
    """What a run's definition says."""
    body = msgspec.json.decode(definition.body, type=RunBody)
    at = from_iso(body.started_at)
    due = from_iso(body.due) if body.due else at
    return RunFacts(definition.id, body.campaign, body.version, body.kind, at, due, body.members)


def control_of(definitions: Definitions, workspace: str, campaign: str) -> tuple[Control | None, int]:
    """A campaign's control and its version; None and 0 for one that was never started."""
    d = definitions.get(workspace, CONTROL, campaign)
    return (None, 0) if d is None else (msgspec.json.decode(d.body, type=Control), d.version)


class RunViews:
    """Shares of runs, read from the stage's states over all partitions."""

    def __init__(self, views: Views, definitions: Definitions):
        self._views = views
        self._definitions = definitions

    async def parts(self, workspace: str, facts: RunFacts) -> list[Part]:
        """One part a partition. Problem 503 while any partition's view is missing or being restored."""
        campaign = self._definitions.get(workspace, "campaign", facts.campaign, facts.version)
        held_by_switch = campaign is None or campaign_of(campaign).class_ != "transactional"
        keys = [
            run_key(workspace, facts.run_id),
            share_key(workspace, facts.run_id),
            active.stop_key(workspace, facts.campaign),
            active.stop_key(workspace, "*"),
        ]

        async def one(partition: int) -> Part:
            hot, cold, own, switch = await self._views.get_many(partition, keys)
            paused = (own is not None and own.state == "paused") or (switch is not None and held_by_switch)
            return Part(hot if hot is not None else cold, paused)

        try:
            return list(await asyncio.gather(*(one(p) for p in range(self._views.partitions))))
        except Unavailable as e:
            raise unavailable("campaigns", str(e)) from e
