"""The segmentation process: the stage in a thread, definitions tailed, gRPC and health beside it."""

from functools import partial

from rondo_common import health, lifecycle, redis_client, rpc
from rondo_common.clock import Clock
from rondo_common.commands import CommandWriter
from rondo_common.definitions import DefinitionStore
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import StateView
from rondo_common.warehouse import Warehouse
from rondo_protos.insights.v1 import insights_pb2_grpc
from rondo_protos.segmentation.v1 import segmentation_pb2, segmentation_pb2_grpc
from services.segmentation.clients import WarehouseAudiences
from services.segmentation.grpc_server import SegmentationServicer
from services.segmentation.requests.audiences import AudienceRequests
from services.segmentation.requests.definitions import DefinitionRequests
from services.segmentation.store import States
from services.segmentation.streams import SegmentationStage, address_ids


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything this process does."""
    clock = Clock(settings.clock_file or None)
    stage = SegmentationStage(settings.secret)
    runner = StageRunner(stage, settings, clock)
    life.thread("stage", runner.run, runner.ask_stop)
    commands = CommandWriter(settings, clock)
    life.on_stop(commands.close)
    definitions = DefinitionStore(settings, clock, commands)
    definitions.start()
    life.on_stop(definitions.stop)
    redis = redis_client.connect(settings.redis)
    life.on_stop(redis.close)
    view = StateView(redis, stage.name, stage.types, settings.partitions)
    states = States(view, definitions, partial(address_ids, settings.secret))
    requests = DefinitionRequests(definitions, states)
    channel = rpc.channel(settings.grpc_insights, "insights")
    life.on_stop(channel.close)
    warehouse = WarehouseAudiences(Warehouse(settings.url_warehouse), insights_pb2_grpc.InsightsServiceStub(channel))
    servicer = SegmentationServicer(requests, AudienceRequests(states, clock, requests.known, warehouse))

    ready = health.all_ready(runner.ready, definitions.ready)
    await life.http(health.app(ready), settings.http_port)
    await life.grpc(
        rpc.Servicer(segmentation_pb2, segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server, servicer),
        port=settings.grpc_port,
        ready=ready,
    )
