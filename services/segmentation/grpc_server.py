"""gRPC SegmentationService: messages in, messages out; the work is in `requests`."""

from typing import Any

import msgspec

from rondo_protos.segmentation.v1 import segmentation_pb2 as pb
from rondo_protos.segmentation.v1 import segmentation_pb2_grpc
from services.segmentation.requests.audiences import AudienceRequests
from services.segmentation.requests.definitions import DefinitionRequests, Shown

_encode = msgspec.json.Encoder().encode


def _segment(shown: Shown) -> pb.Segment:
    return pb.Segment(id=shown.id, version=shown.version, body_json=_encode(shown.body))


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """See segmentation.proto."""

    def __init__(self, definitions: DefinitionRequests, audiences: AudienceRequests):
        self._definitions = definitions
        self._audiences = audiences

    async def Put(self, request: pb.PutRequest, context: Any) -> pb.PutResponse:
        if_version = request.if_version if request.HasField("if_version") else None
        shown, created = await self._definitions.put(
            request.workspace, request.id, request.body_json, request.actor, if_version
        )
        return pb.PutResponse(segment=_segment(shown), created=created)

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        return pb.GetResponse(segment=_segment(await self._definitions.get(request.workspace, request.id)))

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        found, cursor = await self._definitions.page(
            request.workspace, request.cursor, request.limit, request.include_internal
        )
        return pb.ListResponse(segments=[_segment(s) for s in found], next_cursor=cursor)

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        await self._definitions.delete(request.workspace, request.id, request.actor)
        return pb.DeleteResponse()

    async def Validate(self, request: pb.ValidateRequest, context: Any) -> pb.ValidateResponse:
        await self._definitions.validate(request.workspace, request.rule_json, request.pointer)
        return pb.ValidateResponse()

    async def Preview(self, request: pb.PreviewRequest, context: Any) -> pb.PreviewResponse:
        answer = await self._audiences.preview(request.workspace, request.body_json)
        return pb.PreviewResponse(answer_json=_encode(answer))

    async def Count(self, request: pb.CountRequest, context: Any) -> pb.CountResponse:
        count, live = await self._audiences.count(request.workspace, request.id)
        return pb.CountResponse(count=count, live=live)

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:
        rows, cursor = await self._audiences.members(request.workspace, request.id, request.cursor, request.limit)
        members = [
            pb.SegmentMember(member_id=b.id, user_id=b.user_id or "", entered_at=b.entered_at, version=b.version)
            for b in rows
        ]
        return pb.ListMembersResponse(members=members, next_cursor=cursor)

    async def ListMemberSegments(
        self, request: pb.ListMemberSegmentsRequest, context: Any
    ) -> pb.ListMemberSegmentsResponse:
        rows = await self._audiences.segments_of(request.workspace, request.member_id, request.at_ms)
        segments = [pb.MemberSegment(segment=b.id, entered_at=b.entered_at, version=b.version) for b in rows]
        return pb.ListMemberSegmentsResponse(segments=segments)

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        answer = await self._audiences.explain(request.workspace, request.member_id, request.segment, request.at_ms)
        return pb.ExplainResponse(explanation_json=_encode(answer))
