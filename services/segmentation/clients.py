"""Audiences asked of the warehouse: one query, once it shows what the log held when the question came."""

import uuid
from typing import Any

from rondo_common import topics
from rondo_common.problems import Problem, unavailable
from rondo_common.warehouse import Warehouse
from rondo_protos.insights.v1 import insights_pb2 as pb
from services.segmentation import rules as r
from services.segmentation.sql import question
from services.segmentation.sql.atoms import SENT
from services.segmentation.sql.question import Lookup, Question, Standing

WAIT_MS = 5_000
"""The feed writes at once when asked; who is further behind than this is catching up."""
MOST_S = 10
MOST_BYTES = 4 << 30
"""What one question may cost."""


class WarehouseAudiences:
    """Raises Problem: 503 while the warehouse or insights does not answer or is behind, 422 for a question
    that costs too much. Blocking but for `caught_up`."""

    def __init__(self, warehouse: Warehouse, insights: Any):
        self._warehouse, self._insights = warehouse, insights

    async def caught_up(self, workspace: str, asked: Question) -> None:
        """Wait until the tables a question reads show all that the log holds now."""
        read = {topics.CONTACTS, topics.MEMBER_EVENTS}
        read |= {topics.DELIVERIES for s in asked.sources if s in SENT}
        read |= {topics.ENGAGEMENT for s in asked.sources if s in ("opened", "clicked")}
        request = pb.CatchUpRequest(workspace=workspace, topics=sorted(read), wait_ms=WAIT_MS)
        answer = await self._insights.CatchUp(request, timeout=WAIT_MS / 1000 + 5)
        if answer.behind:
            raise unavailable("the warehouse", f"{answer.behind} records behind")

    def standing(self, workspace: str) -> Standing:
        """What the members of a workspace are like."""
        ((gone, merged, chained),) = self._rows(question.standing(), {"w": workspace})
        return Standing(gone, question.MOST_HOPS if chained else min(merged, 1))

    def ask(
        self, rule: r.Node, lookup: Lookup, workspace: str, at: int, samples: int, members: Standing, past: bool
    ) -> Question:
        """The question; Problem 422 for a rule of too many parts."""
        try:
            return question.ask(rule, lookup, workspace, at, samples, members, past)
        except question.TooMuch as e:
            raise Problem(422, "too-costly", "The rule costs too much", str(e)) from e

    def answer(self, workspace: str, asked: Question) -> dict[str, Any]:
        """count, anonymous, samples, leaves and exact of WIRE 4."""
        ((count, anonymous, found, doubt, *leaves),) = self._rows(asked.sql, asked.parameters)
        names = {}
        if found:
            names = dict(self._rows(question.NAMES, {"w": workspace, "m": list(found)}))
        return {
            "count": count,
            "anonymous": anonymous,
            "samples": [{"member_id": str(uuid.UUID(int=m)), "user_id": names.get(m) or None} for m in found],
            "leaves": [{"pointer": p, "count": n} for p, n in zip(asked.pointers, leaves, strict=True)],
            "exact": not doubt,
        }

    def _rows(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._warehouse.rows(
            statement, parameters, {"max_execution_time": MOST_S, "max_memory_usage": MOST_BYTES}
        )
