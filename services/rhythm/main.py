"""The rhythm process: the gate's stage in a thread, policies' definitions, gRPC and health beside it."""

from rondo_common import health, lifecycle, redis_client, rpc
from rondo_common.clock import Clock
from rondo_common.definitions import DefinitionStore
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import AsyncStateView
from rondo_protos.rhythm.v1 import rhythm_pb2, rhythm_pb2_grpc
from services.rhythm.grpc_server import RhythmServicer
from services.rhythm.model import STATE_TYPES
from services.rhythm.store import Members
from services.rhythm.streams import RhythmStage


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything this process does."""
    clock = Clock(settings.clock_file or None)
    stage = RhythmStage(settings.secret)
    runner = StageRunner(stage, settings, clock)
    definitions = DefinitionStore(settings, clock)

    ready = health.all_ready(runner.ready, definitions.ready)

    definitions.start()
    life.on_stop(definitions.stop)
    life.thread("stage", runner.run, runner.ask_stop)
    redis = redis_client.connect_async(settings.redis)
    life.on_stop(redis.aclose)
    view = AsyncStateView(redis, stage.name, STATE_TYPES, settings.partitions)
    servicer = rpc.Servicer(
        rhythm_pb2,
        rhythm_pb2_grpc.add_RhythmServiceServicer_to_server,
        RhythmServicer(definitions, Members(view, definitions), clock),
    )
    await life.http(health.app(ready), settings.http_port)
    await life.grpc(servicer, port=settings.grpc_port, ready=ready)
