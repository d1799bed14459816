"""Questions about members and audiences: preview, members of a segment, segments of a member, why."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rondo_common import telemetry
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem, invalid, not_found
from services.segmentation import rules as r
from services.segmentation.audience import Tally, explain
from services.segmentation.clients import WarehouseAudiences
from services.segmentation.model import Member
from services.segmentation.requests import rules
from services.segmentation.ruleset import RuleSet
from services.segmentation.sql.question import Standing
from services.segmentation.store import States

MOST_COUNTED = 30_000
"""Members the evaluator counts one by one (about 2 s) while the warehouse can't be asked."""
MOST_MEMBERS = 1_000
MEMBERS = 100
_LATEST = 253_402_300_799_999
"""The last ms of the year 9999 (UTC), which RFC 3339 can write."""

log = telemetry.logger(__name__)


@dataclass(frozen=True)
class Belonging:
    """One membership: of whom (or in what), since when (RFC 3339), by which version."""

    id: str
    entered_at: str
    version: int
    user_id: str | None = None


class AudienceRequests:
    """Raises Problem: 404 unknown member or segment, 422 wrong, 503. Work over all members runs in a
    thread of its own."""

    def __init__(self, states: States, clock: Clock, known: Callable[[str, str], Any], warehouse: WarehouseAudiences):
        self._states, self._clock, self._known, self._warehouse = states, clock, known, warehouse

    async def preview(self, workspace: str, data: bytes) -> dict[str, Any]:
        """Whom a rule holds at an instant (WIRE 4), as known when it is asked: one query of the warehouse once
        it shows all that the log held then. While it can't, a small workspace is counted member by member."""
        began = time.perf_counter()
        now = self._clock.now()
        value, at, samples = rules.read_preview(data, now)
        known = await asyncio.to_thread(self._states.rules, workspace)
        rule = rules.read_rule(value, "/rule", known)
        try:
            found = await self._asked(workspace, rule, known, at, samples, past=at < now)
        except Problem as problem:
            counted = await asyncio.to_thread(self._counted, workspace, rule, known, at, samples)
            if counted is None:
                raise
            log.info("a preview without the warehouse", workspace=workspace, reason=problem.detail)
            found = counted
        took = round((time.perf_counter() - began) * 1000)
        return {**found, "as_of": iso(at), "took_ms": took}

    async def _asked(
        self, workspace: str, rule: r.Node, known: RuleSet, at: int, samples: int, past: bool
    ) -> dict[str, Any]:
        warehouse = self._warehouse
        sources = warehouse.ask(rule, known.rules.get, workspace, at, samples, Standing(), past)
        await warehouse.caught_up(workspace, sources)

        def answer() -> dict[str, Any]:
            members = warehouse.standing(workspace)
            asked = warehouse.ask(rule, known.rules.get, workspace, at, samples, members, past)
            return warehouse.answer(workspace, asked)

        return await asyncio.to_thread(answer)

    def _counted(self, workspace: str, rule: r.Node, known: RuleSet, at: int, samples: int) -> dict[str, Any] | None:
        """The same by the evaluator; None for a workspace that is too large for it."""
        tally = Tally(known.compile(rule), at, samples)
        for n, (member_id, member) in enumerate(self._states.members(workspace)):
            if n >= MOST_COUNTED:
                return None
            tally.add(member_id, member)
        return {**tally.answer(), "exact": True}

    async def count(self, workspace: str, id: str) -> tuple[int, bool]:
        """Members in a segment, and whether its newest version is live everywhere."""
        d = self._known(workspace, id)
        (standing,) = await asyncio.to_thread(self._states.standing, workspace, [d])
        return standing.count, standing.live

    async def members(self, workspace: str, id: str, cursor: str, limit: int) -> tuple[list[Belonging], str]:
        """A page of a segment's members, and the cursor of the next ("": that was all)."""
        self._known(workspace, id)
        limit = max(1, min(limit or MEMBERS, MOST_MEMBERS))
        rows = await asyncio.to_thread(self._states.page, workspace, id, cursor, limit + 1)
        page = [
            Belonging(m, iso(member.inside[id].since), member.inside[id].version, member.user_id)
            for m, member in rows[:limit]
        ]
        return page, page[-1].id if len(rows) > limit else ""

    async def segments_of(self, workspace: str, member_id: str, at: int) -> list[Belonging]:
        """The segments a member is in: now as recorded (`at` 0), or at an instant as known now."""
        self._check(at)
        member_id, member = await self._member(workspace, member_id)
        if not at:
            return [Belonging(s, iso(i.since), i.version) for s, i in sorted(member.inside.items())]
        known = await asyncio.to_thread(self._states.rules, workspace)
        found = []
        for id, program in sorted(known.programs.items()):
            if program.holds(member, member_id, at):
                since = program.since(member, member_id, at)
                found.append(Belonging(id, iso(at if since is None else since), known.versions[id]))
        return found

    async def explain(self, workspace: str, member_id: str, segment: str, at: int) -> dict[str, Any]:
        """Why a member is or is not in a segment at an instant (0: now), and until when that holds."""
        self._check(at)
        d = self._known(workspace, segment)
        member_id, member = await self._member(workspace, member_id)
        at = at or self._clock.now()
        known = await asyncio.to_thread(self._states.rules, workspace)
        program = known.programs.get(segment)
        if program is None:
            raise not_found("segment", segment)
        holds, until, leaves = explain(program, member, member_id, at)
        return {
            "segment": segment,
            "version": d.version,
            "member_id": member_id,
            "in": holds,
            "as_of": iso(at),
            "valid_until": None if until is None or until > _LATEST else iso(until),
            "leaves": leaves,
        }

    async def _member(self, workspace: str, member_id: str) -> tuple[str, Member]:
        found = await asyncio.to_thread(self._states.member, workspace, member_id)
        if found is None:
            raise not_found("member", member_id)
        return found

    @staticmethod
    def _check(at: int) -> None:
        if not -_LATEST // 4 <= at <= _LATEST:
            raise Problem(422, "invalid-time", "The time is out of range", "", [invalid("/at", "bad_time", "ms")])
