"""The HTTP application: health, imports and callbacks, with the Segment endpoints in front (door.py)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rondo_common import health, telemetry, web
from rondo_common.clock import Clock
from rondo_common.keys import Keys
from rondo_common.problems import not_implemented
from rondo_common.settings import Settings
from services.ingestion import body as bodies
from services.ingestion.callbacks import sendgrid, sendgrid_inbound, telegram, twilio
from services.ingestion.callbacks.common import Recorder
from services.ingestion.callbacks.marks import StopMarks
from services.ingestion.callbacks.sendgrid_signature import SIGNATURE, TIMESTAMP, Verifier
from services.ingestion.door import Door, basic_user, workspace_of, wrong_key
from services.ingestion.imports.api import MAX_UPLOAD, Imports
from services.ingestion.imports.jobs import Jobs
from services.ingestion.imports.runner import Runner
from services.ingestion.intake import Intake
from services.ingestion.openapi import document
from services.ingestion.sink import Sink

_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response></Response>'


@dataclass
class Application:
    """The ASGI application and the task that goes with it."""

    asgi: Door
    runner: Runner


def build(settings: Settings, sink: Sink, keys: Keys, clock: Clock, marks: StopMarks) -> Application:
    """Put the parts together. `runner.run` must be kept running for imports to go on."""
    intake = Intake(sink, clock, settings.secret)

    def authorize(request: Request) -> str:
        key = basic_user(request.headers.get("authorization", ""))
        if key is None:
            raise wrong_key("Send the write key as the user of Basic auth")
        return workspace_of(keys, key)

    jobs = Jobs(Path(settings.data_dir) / "imports")
    runner = Runner(jobs, intake, clock, settings.secret)
    imports = Imports(jobs, runner, clock, authorize, settings.public_url)
    recorder = Recorder(settings, sink, clock, marks)
    routes = [
        *health.routes(sink.ready),
        *imports.routes(),
        *callback_routes(settings, recorder),
        Route("/openapi.json", _described, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    web.install(app, max_body=MAX_UPLOAD)
    return Application(Door(app, intake, keys), runner)


async def _described(_: Request) -> Response:
    return web.json_response(document())


def callback_routes(settings: Settings, recorder: Recorder) -> list[BaseRoute]:
    """The routes of provider callbacks. Each reads the raw body within its provider's limit."""
    verifier = Verifier(settings.sendgrid_public_key)
    events = sendgrid.SendgridEvents(verifier, recorder)
    parse = sendgrid_inbound.SendgridInbound(verifier, recorder)
    sms = twilio.Twilio(recorder)
    bot = telegram.Telegram(recorder)

    async def sendgrid_events(request: Request) -> Response:
        data = await _body(request, sendgrid.MAX_BODY)
        await events.take(*_signed(request), data, telemetry.traceparent())
        return Response(status_code=204)

    async def sendgrid_parse(request: Request) -> Response:
        data = await _body(request, sendgrid_inbound.MAX_BODY)
        kind = request.headers.get("content-type", "")
        await parse.take(*_signed(request), kind, data, telemetry.traceparent())
        return Response(status_code=200)  # SendGrid takes anything but 2xx as a failure, and 200 is documented

    async def twilio_status(request: Request) -> Response:
        params, query = await _twilio(request, sms)
        await sms.status(params, query, telemetry.traceparent())
        return Response(status_code=204)

    async def twilio_inbound(request: Request) -> Response:
        params, query = await _twilio(request, sms)
        await sms.inbound(params, query, telemetry.traceparent())
        return Response(_TWIML, media_type="text/xml")

    async def telegram_update(request: Request) -> Response:
        data = await _body(request, telegram.MAX_BODY)
        await bot.take(request.headers.get(telegram.HEADER, ""), data, telemetry.traceparent())
        return Response(status_code=200)

    async def whatsapp(_: Request) -> Response:
        raise not_implemented("WhatsApp")

    posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "sendgrid": sendgrid_events,
        "sendgrid-inbound": sendgrid_parse,
        "twilio/status": twilio_status,
        "twilio/inbound": twilio_inbound,
        "telegram": telegram_update,
    }
    routes: list[BaseRoute] = [Route(f"/v1/callbacks/{path}", call, methods=["POST"]) for path, call in posts.items()]
    return [*routes, Route("/v1/callbacks/whatsapp", whatsapp, methods=["GET", "POST"])]


async def _body(request: Request, limit: int) -> bytes:
    return await bodies.read(request.receive, limit, request.headers.get("content-length", ""))


def _signed(request: Request) -> tuple[str, str]:
    return request.headers.get(SIGNATURE, ""), request.headers.get(TIMESTAMP, "")


async def _twilio(request: Request, sms: twilio.Twilio) -> tuple[twilio.Params, str]:
    data = await _body(request, twilio.MAX_BODY)
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1").partition("?")[0]
    query = request.scope["query_string"].decode("latin-1")
    headers = request.headers
    signature = headers.get("x-twilio-signature", "")
    return sms.verified(path, query, headers.get("content-type", ""), signature, data), query
