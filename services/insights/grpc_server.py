"""gRPC Insights."""

import asyncio
from typing import Any

import msgspec

from rondo_common.warehouse import Warehouse
from rondo_protos.insights.v1 import insights_pb2 as pb
from rondo_protos.insights.v1 import insights_pb2_grpc
from services.insights import queries
from services.insights.lag import Lag


class Insights(insights_pb2_grpc.InsightsServiceServicer):
    """Answers from the warehouse; each question runs in a thread."""

    def __init__(self, db: Warehouse, lag: Lag):
        self._db, self._lag = db, lag

    async def GetTimeline(self, request: Any, context: Any) -> Any:
        data, following = await asyncio.to_thread(
            queries.timeline, self._db, request.workspace, list(request.member_ids), request.cursor, request.limit
        )
        return pb.GetTimelineResponse(data_json=msgspec.json.encode(data), next_cursor=following)

    async def ListDecisions(self, request: Any, context: Any) -> Any:
        data, following = await asyncio.to_thread(
            queries.decisions,
            self._db,
            request.workspace,
            list(request.member_ids),
            request.campaign,
            request.cursor,
            request.limit,
        )
        return pb.ListDecisionsResponse(data_json=msgspec.json.encode(data), next_cursor=following)

    async def GetDecision(self, request: Any, context: Any) -> Any:
        found = await asyncio.to_thread(
            queries.decision,
            self._db,
            request.workspace,
            list(request.member_ids),
            request.campaign,
            request.touch_id,
            request.at_ms,
        )
        return pb.GetDecisionResponse(decision_json=found)

    async def GetRunOutcomes(self, request: Any, context: Any) -> Any:
        found = await asyncio.to_thread(queries.run_outcomes, self._db, request.workspace, request.run_id)
        return pb.GetRunOutcomesResponse(outcomes_json=msgspec.json.encode(found))

    async def CatchUp(self, request: Any, context: Any) -> Any:
        behind = await self._lag.wait(list(request.topics), request.wait_ms / 1000)
        return pb.CatchUpResponse(behind=behind)
