"""API triggers and single transactional messages."""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from rondo_common import ids
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem, invalid, not_implemented
from rondo_common.records import Command
from services.campaigns.bodies import TemplateBody
from services.campaigns.campaign_rules import audience_segment, decode_object, recipients_segment
from services.campaigns.clients import Segments
from services.campaigns.handlers.commands import StartData
from services.campaigns.handlers.sends import send_touch_id
from services.campaigns.requests.control import ControlRequests, Writer, new_run_id
from services.campaigns.requests.definitions import put_rule
from services.campaigns.store import RUN, Definitions, RunBody
from services.campaigns.template_rules import parse_content

MOST_RECIPIENTS = 50_000
MOST_DATA = 32 * 1024
SLICE = 1_000
CHANNELS = ("email", "sms", "messaging")


class Recipient(NamedTuple):
    """A member and its own trigger data (JSON, empty for none)."""

    member_id: str
    data: bytes


class MessageRequests:
    """Triggers and sends."""

    def __init__(
        self, definitions: Definitions, commands: Writer, segments: Segments, control: ControlRequests, clock: Clock
    ):
        self._definitions = definitions
        self._commands = commands
        self._segments = segments
        self._control = control
        self._clock = clock

    async def trigger(
        self, workspace: str, campaign: str, recipients: Sequence[Recipient], data: bytes, key: str, actor: str
    ) -> tuple[str, int]:
        """Trigger a campaign for members; the run's id and how many they are."""
        definition, _ = self._control.campaign(workspace, campaign)
        self._control.allow_trigger(workspace, campaign)
        if len(recipients) > MOST_RECIPIENTS:
            detail = f"at most {MOST_RECIPIENTS} in one call"
            raise Problem(422, "too-many", "Too many recipients", detail, [invalid("/ids", "too_many", detail)])
        common = _data(data, "/data")
        first: dict[str, bytes] = {}
        for r in recipients:
            first.setdefault(r.member_id, r.data)
        run_id = new_run_id(workspace, campaign, "members", key)
        stored = self._definitions.get(workspace, RUN, run_id)
        if stored is None:
            now = iso(self._clock.now())
            body = RunBody(campaign, definition.version, "api", now, members=len(first))
            plain = msgspec.to_builtins(body)
            stored = await self._definitions.put(workspace, RUN, run_id, plain, actor)
        run = msgspec.json.decode(stored.body, type=RunBody)
        commands = [
            Command(
                kind="trigger",
                workspace=workspace,
                id=ids.derived(run_id, f"trigger:{member_id}"),
                at=run.started_at,
                actor=actor,
                campaign=campaign,
                version=run.version,
                run_id=run_id,
                member_id=member_id,
                data=_raw({**common, **_data(own, "/recipients")}),
            )
            for member_id, own in first.items()
        ]
        for at in range(0, len(commands), SLICE):
            await self._commands.to_members(commands[at : at + SLICE])
        return run_id, len(first)

    async def trigger_audience(
        self, workspace: str, campaign: str, rule: bytes, data: bytes, key: str, actor: str
    ) -> str:
        """Trigger a campaign for a rule, or without one for its own audience; the run's id."""
        definition, body = self._control.campaign(workspace, campaign)
        self._control.allow_trigger(workspace, campaign)
        if rule:
            parsed = decode_object(rule)
            segment = recipients_segment(parsed)
            name = f"Recipients of {campaign}"
            try:
                await put_rule(self._segments, workspace, segment, name, parsed, actor, "")
            except Problem as p:
                p.errors = [{**e, "pointer": e["pointer"].replace("/rule", "/recipients", 1)} for e in p.errors]
                raise
        else:
            found = audience_segment(campaign, body)
            if found is None:
                detail = "the campaign has no audience of its own"
                raise Problem(
                    422, "no-audience", "Nobody to send to", detail, [invalid("/broadcast", "not_allowed", detail)]
                )
            segment = found
        common = _data(data, "/data")
        run_id = new_run_id(workspace, campaign, "audience", key)
        await self._control.allow_audience(workspace, campaign, actor)
        start = StartData("broadcast", iso(self._clock.now()), segment, _raw(common))
        await self._control.begin(definition, run_id, start, actor)
        return run_id

    async def send(
        self,
        workspace: str,
        channel: str,
        member_id: str,
        template: str,
        content: bytes,
        data: bytes,
        key: str,
        actor: str,
    ) -> str:
        """Send one transactional message; its touch id."""
        if channel == "social":
            raise not_implemented("the social channel")
        if channel not in CHANNELS:
            detail = f"one of {', '.join(CHANNELS)}"
            raise Problem(422, "invalid-channel", "There is no such channel", detail, [invalid("", "unknown", detail)])
        if bool(template) == bool(content):
            detail = "exactly one of template, content"
            raise Problem(422, "invalid-request", "Nothing to send", detail, [invalid("/template", "required", detail)])
        if template:
            self._check_template(workspace, template, channel)
        inline = parse_content(content, channel) if content else None
        cause = f"{workspace}:send:{key}" if key else str(uuid.uuid4())
        command = Command(
            kind="send",
            workspace=workspace,
            id=ids.derived(cause, "send"),
            at=iso(self._clock.now()),
            actor=actor,
            member_id=member_id,
            channel=channel,
            template=template or None,
            content=_raw(inline),
            data=_raw(_data(data, "/data")),
        )
        command = msgspec.structs.replace(command, touch_id=send_touch_id(command))
        await self._commands.to_members([command])
        return command.touch_id or ""

    def _check_template(self, workspace: str, id: str, channel: str) -> None:
        found = self._definitions.get(workspace, "template", id)
        detail = ""
        if found is None:
            detail = f"there is no template {id!r}"
        elif channel not in msgspec.json.decode(found.body, type=TemplateBody).channels():
            detail = f"the template has no part for {channel}"
        if detail:
            errors = [invalid("/template", "unknown_template", detail)]
            raise Problem(422, "invalid-template", "The template can't be used", detail, errors)


def _data(raw: bytes, pointer: str) -> dict[str, Any]:
    """Trigger data, an object of at most 32 KB. Problem 422."""
    if not raw:
        return {}
    if len(raw) > MOST_DATA:
        detail = f"at most {MOST_DATA} bytes"
        raise Problem(422, "too-large", "The data are too large", detail, [invalid(pointer, "too_large", detail)])
    return decode_object(raw)


def _raw(value: dict[str, Any] | None) -> Any:
    return msgspec.Raw(msgspec.json.encode(value)) if value else None
