"""The services behind the API: one channel and stub each, made when the process starts."""

from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx

from rondo_common import rpc
from rondo_common.settings import Settings
from rondo_protos.campaigns.v1.campaigns_pb2_grpc import CampaignsServiceStub
from rondo_protos.community.v1.community_pb2_grpc import CommunityServiceStub
from rondo_protos.delivery.v1.delivery_pb2_grpc import DeliveryServiceStub
from rondo_protos.insights.v1.insights_pb2_grpc import InsightsServiceStub
from rondo_protos.profiles.v1.profiles_pb2_grpc import ProfilesServiceStub
from rondo_protos.rhythm.v1.rhythm_pb2_grpc import RhythmServiceStub
from rondo_protos.segmentation.v1.segmentation_pb2_grpc import SegmentationServiceStub


@dataclass
class Clients:
    """Stubs by service, and HTTP for ingestion and capture."""

    profiles: Any
    segments: Any
    campaigns: Any
    rhythm: Any
    delivery: Any
    insights: Any
    community: Any
    http: httpx.AsyncClient
    channels: list[grpc.aio.Channel]

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        await self.http.aclose()


def connect(s: Settings) -> Clients:
    """Connects lazily: a service that is down makes calls to it answer 503, nothing else."""
    made: list[grpc.aio.Channel] = []

    def stub(kind: Any, address: str, name: str) -> Any:
        channel = rpc.channel(address, name)
        made.append(channel)
        return kind(channel)

    return Clients(
        stub(ProfilesServiceStub, s.grpc_profiles, "profiles"),
        stub(SegmentationServiceStub, s.grpc_segmentation, "segmentation"),
        stub(CampaignsServiceStub, s.grpc_campaigns, "campaigns"),
        stub(RhythmServiceStub, s.grpc_rhythm, "rhythm"),
        stub(DeliveryServiceStub, s.grpc_delivery, "delivery"),
        stub(InsightsServiceStub, s.grpc_insights, "insights"),
        stub(CommunityServiceStub, s.grpc_community, "community"),
        httpx.AsyncClient(timeout=10.0),
        made,
    )
