"""The profiles process: the stage in a thread, gRPC and health beside it."""

from rondo_common import health, lifecycle, redis_client, rpc
from rondo_common.clock import Clock
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_common.streams.view import AsyncStateView
from rondo_protos.profiles.v1 import profiles_pb2, profiles_pb2_grpc
from services.profiles.grpc_server import ProfilesServicer
from services.profiles.model import TYPES
from services.profiles.store import Members
from services.profiles.streams import ProfilesStage


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything this process does."""
    stage = ProfilesStage(settings.secret)
    runner = StageRunner(stage, settings, Clock(settings.clock_file or None))
    life.thread("stage", runner.run, runner.ask_stop)
    redis = redis_client.connect_async(settings.redis)
    life.on_stop(lambda: redis.aclose(close_connection_pool=True))
    members = Members(AsyncStateView(redis, stage.name, TYPES, settings.partitions), settings.secret)
    await life.http(health.app(runner.ready), settings.http_port)
    servicer = rpc.Servicer(
        profiles_pb2, profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, ProfilesServicer(members)
    )
    await life.grpc(servicer, port=settings.grpc_port, ready=runner.ready)
