"""Start, pause, resume and cancel of campaigns."""

import uuid
from typing import Any, Protocol

import msgspec

from rondo_common import ids
from rondo_common.clock import Clock, from_iso, iso
from rondo_common.problems import Problem, conflict, not_found
from rondo_common.records import Command, Definition
from services.campaigns.bodies import CampaignBody, campaign_of
from services.campaigns.campaign_rules import audience_segment
from services.campaigns.handlers.commands import StartData
from services.campaigns.store import CONTROL, RUN, Control, Definitions, RunBody, control_of


class Writer(Protocol):
    """The part of rondo_common.commands.CommandWriter that is used here."""

    async def to_all(self, command: Command) -> None: ...

    async def to_members(self, commands: list[Command]) -> None: ...


class ControlRequests:
    """What is asked of a whole campaign. Each answers after the broker acknowledged its command in every
    partition; the same request again repeats the same command, which changes nothing."""

    def __init__(self, definitions: Definitions, commands: Writer, clock: Clock):
        self._definitions = definitions
        self._commands = commands
        self._clock = clock

    def campaign(self, workspace: str, id: str) -> tuple[Definition, CampaignBody]:
        """The newest version of a campaign. Problem 404."""
        definition = self._definitions.get(workspace, "campaign", id)
        if definition is None:
            raise not_found("campaign", id)
        return definition, campaign_of(definition)

    async def start(self, workspace: str, campaign: str, key: str, actor: str) -> str:
        """Begin a run; its id. Problem 409 while the campaign is paused, or open already."""
        definition, body = self.campaign(workspace, campaign)
        run_id = new_run_id(workspace, campaign, "start", key)
        if body.type == "broadcast":
            at = self._clock.now()
            due = from_iso(body.schedule.at) if body.schedule and body.schedule.at != "now" else at
            start = StartData("broadcast", iso(max(at, due)), audience_segment(campaign, body))
        else:
            start = StartData("triggered")
        control, _ = control_of(self._definitions, workspace, campaign)
        if control and control.state == "cancelled" and self._definitions.get(workspace, RUN, run_id):
            return run_id  # asked again after it was begun and cancelled
        await self._allow(workspace, campaign, run_id, start.kind == "triggered", actor)
        await self.begin(definition, run_id, start, actor)
        return run_id

    async def begin(self, definition: Definition, run_id: str, start: StartData, actor: str) -> None:
        """Store a run and tell every partition. A run that is there already is only told again."""
        workspace, campaign = definition.workspace, definition.id
        stored = self._definitions.get(workspace, RUN, run_id)
        if stored is None:
            now = iso(self._clock.now())
            body = RunBody(campaign, definition.version, start.kind, now, start.due, start.segment)
            stored = await self._definitions.put(workspace, RUN, run_id, _plain(body), actor)
        run = msgspec.json.decode(stored.body, type=RunBody)
        start = msgspec.structs.replace(start, due=run.due, segment=run.segment)
        await self._commands.to_all(
            Command(
                kind="run.start",
                workspace=workspace,
                id=ids.derived(run_id, "start"),
                at=run.started_at,
                actor=actor,
                campaign=campaign,
                version=run.version,
                run_id=run_id,
                data=msgspec.Raw(msgspec.json.encode(start)),
            )
        )

    async def allow_audience(self, workspace: str, campaign: str, actor: str) -> None:
        """Before a run over an audience that is no start: the same rules as for a broadcast's start."""
        await self._allow(workspace, campaign, "", False, actor)

    async def _allow(self, workspace: str, campaign: str, run_id: str, opens: bool, actor: str) -> None:
        """Problem 409 when a start is not allowed; else note that the campaign is active."""
        control, version = control_of(self._definitions, workspace, campaign)
        if control is not None and control.state == "paused":
            raise conflict("campaign-paused", "The campaign is paused", "Resume or cancel it first")
        open_run = control.open_run if control and control.state == "active" else None
        if opens and open_run is not None and open_run != run_id:
            raise conflict("already-running", "The campaign is running", f"Run {open_run} is open; cancel it first")
        wanted = Control("active", run_id if opens else open_run)
        if wanted == control:
            return
        try:
            await self._definitions.put(workspace, CONTROL, campaign, _plain(wanted), actor, version)
        except Problem as p:
            if p.status != 412:
                raise
            detail = "Somebody else has started, paused or cancelled it just now"
            raise conflict("already-running", "The campaign was changed", detail) from p

    def allow_trigger(self, workspace: str, campaign: str) -> None:
        """Problem 409 for a paused or cancelled campaign."""
        control, _ = control_of(self._definitions, workspace, campaign)
        if control is not None and control.state != "active":
            title = f"The campaign is {control.state}"
            raise conflict(
                f"campaign-{control.state}",
                title,
                "Resume it first" if control.state == "paused" else "Start it again first",
            )

    async def pause(self, workspace: str, campaign: str, actor: str) -> str:
        """No provider call for it begins later than a second after this returns."""
        return await self._set(workspace, campaign, "pause", "paused", actor)

    async def resume(self, workspace: str, campaign: str, actor: str) -> str:
        """Go on where a pause held."""
        return await self._set(workspace, campaign, "resume", "active", actor)

    async def cancel(self, workspace: str, campaign: str, actor: str) -> str:
        """End its runs; what was not sent is skipped."""
        return await self._set(workspace, campaign, "cancel", "cancelled", actor)

    async def _set(self, workspace: str, campaign: str, verb: str, state: str, actor: str) -> str:
        self.campaign(workspace, campaign)
        control, _ = control_of(self._definitions, workspace, campaign)
        if control is not None and control.state == "cancelled" and verb != "cancel":
            raise conflict("campaign-cancelled", "The campaign is cancelled", "Start it again to send anew")
        now = iso(self._clock.now())
        command = Command(
            kind=f"campaign.{verb}",
            workspace=workspace,
            id=str(uuid.uuid4()),
            at=now,
            actor=actor,
            campaign=campaign,
        )
        await self._commands.to_all(command)
        open_run = control.open_run if control and state != "cancelled" else None
        await self._definitions.put(workspace, CONTROL, campaign, _plain(Control(state, open_run)), actor)
        return state


def new_run_id(workspace: str, campaign: str, verb: str, key: str) -> str:
    """Id of a run: the same for the same Idempotency-Key of one call, a new one without."""
    return ids.derived(f"{workspace}:{campaign}:{verb}:{key or uuid.uuid4()}", "run")


def _plain(body: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(body)
    return plain
