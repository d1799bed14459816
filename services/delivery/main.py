"""One delivery worker: `python -m services delivery-email`, delivery-sms or delivery-messaging."""

from collections.abc import Callable

from rondo_common import health, lifecycle
from rondo_common.clock import Clock
from rondo_common.lifecycle import Life
from rondo_common.rpc import Servicer
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from rondo_protos.delivery.v1 import delivery_pb2, delivery_pb2_grpc
from services.delivery.channels import Provider
from services.delivery.channels.sendgrid import SendGrid
from services.delivery.channels.smtp import Smtp
from services.delivery.channels.telegram import Telegram
from services.delivery.channels.twilio import Twilio
from services.delivery.effector import Courier
from services.delivery.grpc_server import DeliveryServicer
from services.delivery.handlers.parts import Parts
from services.delivery.render.renderer import Renderer
from services.delivery.settings import DeliverySettings
from services.delivery.streams import DeliveryStage


def main(settings: Settings) -> int:
    """Run the worker of the channel that the service's name ends with."""
    return lifecycle.run(settings, lambda life: start(life, settings))


def channel_of(service: str) -> str:
    """email of delivery-email. ValueError for a channel there is no worker for."""
    channel = service.removeprefix("delivery-")
    if channel not in ("email", "sms", "messaging"):
        raise ValueError(f"no delivery worker for {service!r}")
    return channel


def provider_of(channel: str, settings: Settings, own: DeliverySettings) -> Callable[[], Provider]:
    """Makes the channel's provider; to be called on the event loop that uses it. ValueError for a setting
    that names none."""
    times = (own.connect_timeout, own.timeout)
    match channel, settings.email_provider:
        case "email", "smtp":
            return lambda: Smtp(settings.smtp_url, own.mail_host, own.mail_from, *times)
        case "email", "sendgrid":
            return lambda: SendGrid(
                settings.sendgrid_base_url, settings.sendgrid_key, own.mail_host, own.mail_from, *times, own.most
            )
        case "sms", _:
            return lambda: Twilio(
                settings.twilio_base_url,
                settings.twilio_account,
                settings.twilio_token,
                settings.twilio_from,
                settings.public_url,
                *times,
                own.most,
            )
        case "messaging", _:
            return lambda: Telegram(settings.telegram_base_url, settings.telegram_token, *times, own.most)
    raise ValueError(f"RONDO_EMAIL_PROVIDER is smtp or sendgrid, not {settings.email_provider!r}")


PROVIDERS = {"sms": Twilio.name, "messaging": Telegram.name}
ASKABLE = frozenset({Twilio.name})


def parts_of(channel: str, settings: Settings, own: DeliverySettings) -> Parts:
    """The configuration of the channel's handlers."""
    provider = PROVIDERS.get(channel, settings.email_provider)
    return Parts(
        channel=channel,
        provider=provider,
        askable=provider in ASKABLE,
        secret=settings.secret,
        renderer=Renderer(channel, settings.secret, settings.url_links, own.mail_from),
        retry_waits=own.retry_waits(),
        reconcile_steps=own.reconcile_steps(),
        keep=own.keep_days * 86_400_000,
    )


async def start(life: Life, settings: Settings) -> None:
    channel = channel_of(settings.service)
    own = DeliverySettings()
    parts = parts_of(channel, settings, own)
    clock = Clock(settings.clock_file or None)
    courier = Courier(channel, provider_of(channel, settings, own), settings.redis, own, patient=clock.frozen)
    runner = StageRunner(DeliveryStage(parts, settings.partitions), settings, clock, courier)
    life.thread("stage", runner.run, runner.ask_stop)
    await life.http(health.app(runner.ready), settings.http_port)
    servicer = Servicer(
        delivery_pb2,
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server,
        DeliveryServicer(parts, settings, courier.status),
    )
    await life.grpc(servicer, port=settings.grpc_port, ready=runner.ready)
