"""Starts community: the view of conversations, the Faust agents, gRPC."""

import asyncio

from rondo_common import faust_watch, health, lifecycle, rpc
from rondo_common.clock import system_clock
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_protos.community.v1 import community_pb2, community_pb2_grpc
from services.community.agents import Agents
from services.community.clients import Profiles
from services.community.grpc_server import Community
from services.community.store import Conversations


async def start(life: Life, settings: Settings) -> None:
    clock = system_clock()
    store = Conversations(settings)
    profiles = Profiles(settings.grpc_profiles)
    agents = Agents(settings, clock, store, profiles.member_of)

    def ready() -> tuple[bool, str]:
        good, why = store.ready()
        if good and not agents.app.rebalancing and agents.app.consumer.assignment():
            return True, "talking"
        return False, why or "waiting for Kafka to assign partitions"

    life.on_stop(profiles.close)
    life.thread("conversations", store.run, stop=store.stop)
    await life.http(health.app(ready), settings.http_port)
    servicer = rpc.Servicer(
        community_pb2,
        community_pb2_grpc.add_CommunityServiceServicer_to_server,
        Community(store, agents, clock),
    )
    await life.grpc(servicer, port=settings.grpc_port, ready=ready)
    life.on_stop(agents.app.stop)
    life.task("faust", _run(agents))
    life.task("watchdog", faust_watch.watch(lambda: agents.app.consumer))


async def _run(agents: Agents) -> None:
    await agents.app.start()
    while not agents.app.crashed and not agents.app.should_stop:
        await asyncio.sleep(0.5)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
