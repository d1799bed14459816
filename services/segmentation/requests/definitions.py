"""Segments as definitions: put, get, list, delete; how far a version is live, and how many are in."""

import asyncio
import re
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from rondo_common.definitions import DefinitionStore
from rondo_common.problems import Problem, conflict, invalid, not_found
from rondo_common.records import Definition
from services.segmentation.requests import rules
from services.segmentation.store import Standing, States

INTERNAL = "campaign-"
"""Ids of audiences written into campaigns begin with it."""
MOST_LISTED = 200
LISTED = 50
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_INTERNAL_ID = re.compile(r"campaign-[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Shown:
    """A segment as it is answered."""

    id: str
    version: int
    body: dict[str, Any]


class DefinitionRequests:
    """Raises Problem: 404 unknown, 409 in use, 412 If-Match, 422 wrong, 501 not served yet, 503."""

    def __init__(self, definitions: DefinitionStore, states: States):
        self._definitions = definitions
        self._states = states

    async def put(self, workspace: str, id: str, data: bytes, actor: str, if_version: int | None) -> tuple[Shown, bool]:
        """The segment's version with this body, and whether there was none before."""
        id = id or f"s-{uuid.uuid4().hex[:12]}"
        if not (_ID.fullmatch(id) or _INTERNAL_ID.fullmatch(id)):
            wanted = "a-z, 0-9, _ and -, at most 64, the first a letter or digit"
            raise Problem(422, "invalid-id", "The id is not valid", wanted, [invalid("/id", "invalid", wanted)])
        body = rules.read_definition(data, id)
        known = await asyncio.to_thread(self._states.rules, workspace)
        rules.read_rule(body["rule"], "/rule", known, id)
        before = self._definitions.get(workspace, "segment", id)
        d = await self._definitions.put(workspace, "segment", id, body, actor, if_version)
        return _shown(d, None), before is None

    async def get(self, workspace: str, id: str) -> Shown:
        """A segment with its count and status."""
        d = self.known(workspace, id)
        standing = await asyncio.to_thread(self._states.standing, workspace, [d])
        return _shown(d, standing[0])

    async def page(self, workspace: str, cursor: str, limit: int, internal: bool) -> tuple[list[Shown], str]:
        """Segments in order of their ids, and the cursor of the next page ("": that was all)."""
        limit = max(1, min(limit or LISTED, MOST_LISTED))
        rest = [
            d
            for d in self._definitions.list(workspace, "segment")
            if d.id > cursor and (internal or not d.id.startswith(INTERNAL))
        ]
        page = rest[:limit]
        standings = await asyncio.to_thread(self._states.standing, workspace, page) if page else []
        found = [_shown(d, s) for d, s in zip(page, standings, strict=True)]
        return found, page[-1].id if len(rest) > limit else ""

    async def delete(self, workspace: str, id: str, actor: str) -> None:
        """Withdraw a segment that no other one nests."""
        self.known(workspace, id)
        users = (await asyncio.to_thread(self._states.rules, workspace)).dependents(id)
        if users:
            raise conflict("in-use", "The segment is in use", "Nested in " + ", ".join(users))
        await self._definitions.delete(workspace, "segment", id, actor)

    async def validate(self, workspace: str, data: bytes, pointer: str) -> None:
        """Problem when the rule is not valid."""
        known = await asyncio.to_thread(self._states.rules, workspace)
        rules.read_rule(rules.read_json(data), pointer, known)

    def known(self, workspace: str, id: str) -> Definition:
        """The newest version of a segment; Problem 404."""
        d = self._definitions.get(workspace, "segment", id)
        if d is None:
            raise not_found("segment", id)
        return d


def _shown(d: Definition, standing: Standing | None) -> Shown:
    body = {**msgspec.json.decode(d.body), "id": d.id, "version": d.version, "created_at": d.created_at}
    if standing is not None:
        body["count"] = standing.count
        body["status"] = "live" if standing.live else "backfilling"
        if not standing.live:
            body["progress"] = standing.progress
    return Shown(d.id, d.version, body)
