"""Starts insights: the engine (unless the warehouse is elsewhere), the feed, gRPC."""

import os
from urllib.parse import urlsplit

from rondo_common import health, lifecycle, rpc, web
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.warehouse import Warehouse
from rondo_protos.insights.v1 import insights_pb2, insights_pb2_grpc
from services.insights import protocol
from services.insights.engine import Engine
from services.insights.feed import Feed
from services.insights.grpc_server import Insights
from services.insights.lag import Lag


async def start(life: Life, settings: Settings) -> None:
    routes, reopen = [], None
    if urlsplit(settings.url_warehouse).port == settings.http_port:
        engine = Engine(os.path.join(settings.data_dir, "warehouse"))
        life.on_stop(engine.close)
        routes, reopen = protocol.routes(engine), engine.reopen
    feed = Feed(settings, reopen)
    app = health.app(feed.ready, routes)
    web.install(app, max_body=256 * 1024 * 1024)
    await life.http(app, settings.http_port)
    servicer = rpc.Servicer(
        insights_pb2,
        insights_pb2_grpc.add_InsightsServiceServicer_to_server,
        Insights(Warehouse(settings.url_warehouse), Lag(settings, feed)),
    )
    await life.grpc(servicer, port=settings.grpc_port, ready=feed.ready)
    life.thread("feed", feed.run, stop=feed.stop)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
