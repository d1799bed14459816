"""Putting and reading campaigns and templates."""

import re
from typing import Any

import msgspec

from rondo_common.problems import Problem, invalid, not_found
from rondo_common.records import Definition
from services.campaigns.bodies import CampaignBody
from services.campaigns.campaign_rules import inline_segment, parse_campaign
from services.campaigns.clients import Segments
from services.campaigns.store import Definitions, control_of
from services.campaigns.template_rules import parse_template

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
PAGE, MOST = 50, 200


class DefinitionRequests:
    """Definitions of campaigns and templates."""

    def __init__(self, definitions: Definitions, segments: Segments):
        self._definitions = definitions
        self._segments = segments

    async def put_template(
        self, workspace: str, id: str, raw: bytes, actor: str, if_version: int | None
    ) -> tuple[Definition, bool]:
        """Validate and store; the definition and whether there was none before."""
        check_id(id)
        _, body = parse_template(raw)
        return await self._put(workspace, "template", id, body, actor, if_version)

    async def put_campaign(
        self, workspace: str, id: str, raw: bytes, actor: str, if_version: int | None
    ) -> tuple[Definition, bool]:
        """Validate, make the segment of an inline rule, and store."""
        check_id(id)
        campaign, body = parse_campaign(raw)
        await self._check_references(workspace, campaign)
        if campaign.audience is not None and campaign.audience.rule is not None:
            name = f"Audience of {campaign.name or id}"
            await put_rule(
                self._segments, workspace, inline_segment(id), name, campaign.audience.rule, actor, "/audience"
            )
        return await self._put(workspace, "campaign", id, body, actor, if_version)

    async def _put(
        self, workspace: str, kind: str, id: str, body: dict[str, Any], actor: str, if_version: int | None
    ) -> tuple[Definition, bool]:
        created = self._definitions.get(workspace, kind, id) is None
        return await self._definitions.put(workspace, kind, id, body, actor, if_version), created

    async def _check_references(self, workspace: str, campaign: CampaignBody) -> None:
        """The template and the segments a campaign names exist."""
        found = []
        if self._definitions.get(workspace, "template", campaign.template) is None:
            found.append(invalid("/template", "unknown_template", f"there is no template {campaign.template!r}"))
        named = {
            "/audience/segment": campaign.audience.segment if campaign.audience else None,
            "/trigger/segment": campaign.trigger.segment if campaign.trigger else None,
        }
        for pointer, segment in named.items():
            if segment is not None and not await self._segment_exists(workspace, segment):
                found.append(invalid(pointer, "unknown_segment", f"there is no segment {segment!r}"))
        if found:
            raise Problem(422, "invalid-campaign", "The campaign is not valid", found[0]["detail"], found)

    async def _segment_exists(self, workspace: str, id: str) -> bool:
        """The log of definitions says so; one just made may not be in our view yet: ask its owner."""
        if self._definitions.get(workspace, "segment", id) is not None:
            return True
        return await self._segments.exists(workspace, id)

    def get(self, workspace: str, kind: str, id: str, version: int) -> Definition:
        """A version, 0 for the newest. Problem 404."""
        found = self._definitions.get(workspace, kind, id, version or None)
        if found is None or found.deleted:
            raise not_found(kind, f"{id}@{version}" if version else id)
        return found

    def page(self, workspace: str, kind: str, limit: int, cursor: str) -> tuple[list[Definition], str]:
        """Newest versions in order of ids after `cursor`, and the next cursor ("" at the end)."""
        limit = min(max(limit, 0) or PAGE, MOST)
        rest = [d for d in self._definitions.list(workspace, kind) if d.id > cursor]
        return rest[:limit], rest[limit - 1].id if len(rest) > limit else ""

    def versions(self, workspace: str, kind: str, id: str) -> list[Definition]:
        """All versions, newest first. Problem 404."""
        found = [d for d in self._definitions.versions(workspace, kind, id) if not d.deleted]
        if not found:
            raise not_found(kind, id)
        return found[::-1]

    def body(self, d: Definition) -> bytes:
        """A definition as the API shows it."""
        shown = {**msgspec.json.decode(d.body), "id": d.id, "version": d.version, "created_at": d.created_at}
        if d.kind == "campaign":
            control, _ = control_of(self._definitions, d.workspace, d.id)
            shown["status"] = control.state if control else "draft"
            if control and control.open_run:
                shown["run_id"] = control.open_run
        return msgspec.json.encode(shown)


def check_id(id: str) -> None:
    """Problem 422 unless `id` has the form of ids (WIRE)."""
    if not _ID.fullmatch(id):
        detail = "a-z, 0-9, _ and -, at most 64, beginning with a letter or digit"
        raise Problem(422, "invalid-id", "The id is not valid", detail, [invalid("/id", "invalid_id", detail)])


async def put_rule(
    segments: Segments, workspace: str, id: str, name: str, rule: dict[str, Any], actor: str, pointer: str
) -> None:
    """Make the segment of an inline rule; its mistakes are reported at `pointer`/rule."""
    try:
        await segments.put(workspace, id, name, rule, actor)
    except Problem as p:
        if p.status != 422:
            raise
        errors = [{**e, "pointer": pointer + e["pointer"]} for e in p.errors]
        raise Problem(422, p.type, p.title, p.detail, errors) from p
