"""Starts capture: a mail server, three providers' HTTP, the inbox API."""

import os

from rondo_common import health, lifecycle, web
from rondo_common.clock import system_clock
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from services.capture import api, sendgrid, smtp, telegram, twilio
from services.capture.acts import Acts
from services.capture.announce import Announcer
from services.capture.callbacks import Callbacks
from services.capture.store import Inbox


async def start(life: Life, settings: Settings) -> None:
    clock = system_clock()
    announcer = Announcer(settings.kafka)
    life.on_stop(announcer.close)
    inbox = Inbox(os.path.join(settings.data_dir, "capture"), announcer.taken)
    life.on_stop(inbox.close)
    callbacks = Callbacks(settings, clock)
    acts = Acts(callbacks)
    life.on_stop(callbacks.close)
    server = await smtp.serve(smtp.Handler(inbox, acts, clock), settings.host, settings.capture_smtp_port)
    life.on_stop(server.close)
    await life.http(sendgrid.app(inbox, acts, clock, settings.sendgrid_key), settings.capture_sendgrid_port)
    await life.http(
        twilio.app(inbox, acts, clock, settings.twilio_account, settings.twilio_token), settings.capture_twilio_port
    )
    await life.http(telegram.app(inbox, acts, clock, settings.telegram_token), settings.capture_telegram_port)
    app = health.app(lambda: (True, ""), api.routes(inbox, acts))
    web.install(app)
    await life.http(app, settings.http_port)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
