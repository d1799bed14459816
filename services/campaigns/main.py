"""The campaigns process: the stage in a thread, definitions tailed, gRPC and health beside it."""

from rondo_common import health, lifecycle, redis_client, rpc
from rondo_common.clock import Clock
from rondo_common.commands import CommandWriter
from rondo_common.definitions import DefinitionStore
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import AsyncStateView
from rondo_protos.campaigns.v1 import campaigns_pb2, campaigns_pb2_grpc
from rondo_protos.segmentation.v1 import segmentation_pb2, segmentation_pb2_grpc
from services.campaigns.clients import GrpcSegments
from services.campaigns.grpc_server import CampaignsServicer, Requests
from services.campaigns.requests.control import ControlRequests
from services.campaigns.requests.definitions import DefinitionRequests
from services.campaigns.requests.messages import MessageRequests
from services.campaigns.requests.runs import RunIndex, RunRequests
from services.campaigns.store import RunViews
from services.campaigns.streams import CampaignsStage


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything this process does."""
    clock = Clock(settings.clock_file or None)
    stage = CampaignsStage()
    runner = StageRunner(stage, settings, clock)
    life.thread("stage", runner.run, runner.ask_stop)
    commands = CommandWriter(settings, clock)
    life.on_stop(commands.close)
    definitions = DefinitionStore(settings, clock, commands)
    index = RunIndex()
    definitions.on_change(index.note)
    definitions.start()
    life.on_stop(definitions.stop)
    redis = redis_client.connect_async(settings.redis)
    life.on_stop(redis.aclose)
    channel = rpc.channel(settings.grpc_segmentation, "segmentation")
    life.on_stop(channel.close)
    segments = GrpcSegments(segmentation_pb2_grpc.SegmentationServiceStub(channel), segmentation_pb2)
    views = RunViews(AsyncStateView(redis, stage.name, stage.types, settings.partitions), definitions)
    control = ControlRequests(definitions, commands, clock)
    requests = Requests(
        DefinitionRequests(definitions, segments),
        control,
        MessageRequests(definitions, commands, segments, control, clock),
        RunRequests(definitions, views, index, clock),
    )

    ready = health.all_ready(runner.ready, definitions.ready)
    await life.http(health.app(ready), settings.http_port)
    servicer = rpc.Servicer(
        campaigns_pb2, campaigns_pb2_grpc.add_CampaignsServiceServicer_to_server, CampaignsServicer(requests)
    )
    await life.grpc(servicer, port=settings.grpc_port, ready=ready)
