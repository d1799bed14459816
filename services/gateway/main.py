"""Starts the gateway."""

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rondo_common import health, lifecycle, redis_client, telemetry, web
from rondo_common.clock import system_clock
from rondo_common.commands import CommandWriter
from rondo_common.definitions import DefinitionStore
from rondo_common.keys import Keys
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.view import AsyncStateView, Unavailable
from rondo_common.warehouse import Warehouse
from services.gateway import clients
from services.gateway.audit import Audit
from services.gateway.drained import Drain
from services.gateway.idempotency import Idempotency
from services.gateway.openapi import describe
from services.gateway.routes import (
    campaigns,
    conversations,
    imports,
    inbox,
    keys,
    members,
    policies,
    runs,
    segments,
    system,
    templates,
    triggers,
    unserved,
)
from services.gateway.test_clock import TestClock

STAGES = (
    "profiles",
    "segmentation",
    "campaigns",
    "rhythm",
    "delivery-email",
    "delivery-sms",
    "delivery-messaging",
    "egress",
)
"""Stages with timers."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes: room for an import's file and for 50,000 ids."""


def make_app(settings: Settings) -> FastAPI:
    """The API without what it talks to; `start` puts that into app.state."""
    app = FastAPI(title="Rondo", version="1.0.0", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings = settings
    for module in (
        keys,
        members,
        segments,
        templates,
        triggers,
        campaigns,
        runs,
        policies,
        inbox,
        imports,
        conversations,
        system,
        unserved,
    ):
        app.include_router(module.router)
    describe(app)
    return app


class Audited:
    """ASGI: one audit entry for each call that changes something and was allowed to."""

    def __init__(self, app: ASGIApp, audit: Audit):
        self._app, self._audit = app, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            grant = scope.get("state", {}).get("grant")
            if grant is not None:
                ip = scope["client"][0] if scope.get("client") else None
                self._audit.write(grant, telemetry.trace_id(), scope["method"], scope["path"], status, ip)


async def start(life: Life, settings: Settings) -> None:
    clock = system_clock()
    app = make_app(settings)
    state: Any = app.state
    state.clock = clock
    state.clients = clients.connect(settings)
    state.commands = CommandWriter(settings, clock)
    state.definitions = DefinitionStore(settings, clock, state.commands)
    state.keys = Keys(settings, state.definitions)
    state.drain = Drain(settings, state.clients.http)
    state.warehouse = Warehouse(settings.url_warehouse)
    redis = redis_client.connect_async(settings.redis)
    views = [AsyncStateView(redis, stage, {}, settings.partitions) for stage in STAGES]

    async def next_due() -> int | None:
        for _ in range(100):
            try:
                found = await asyncio.gather(*(v.next_due() for v in views))
                return min((d for d in found if d is not None), default=None)
            except Unavailable:
                await asyncio.sleep(0.2)  # a partition is being restored
        raise RuntimeError("the stages' timers can't be read")

    state.test_clock = TestClock(clock, next_due, state.drain.wait)
    audit = Audit(settings, clock)
    app.add_middleware(Audited, audit=audit)
    app.add_middleware(Idempotency, redis=redis)
    web.install(app, max_body=MAX_BODY)
    app.router.routes.extend(health.routes(state.definitions.ready))
    state.definitions.start()
    for closer in (state.clients.close, redis.aclose, state.commands.close, audit.close, state.definitions.stop):
        life.on_stop(closer)
    await life.http(app, settings.http_port)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
