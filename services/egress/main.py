"""Starts egress: the stage and its webhook calls."""

from rondo_common import health, lifecycle
from rondo_common.clock import system_clock
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from rondo_common.streams.runner import StageRunner
from services.egress.streams import EgressStage
from services.egress.webhooks import WebhookEffector


async def start(life: Life, settings: Settings) -> None:
    clock = system_clock()
    runner = StageRunner(EgressStage(), settings, clock, WebhookEffector(settings, clock))
    life.thread("stage", runner.run, stop=runner.ask_stop)
    await life.http(health.app(runner.ready), settings.http_port)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
