"""Starts the dashboard."""

from rondo_common import health, lifecycle
from rondo_common.clock import Clock
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from services.dashboard.api import make_app
from services.dashboard.clients.broker import Broker
from services.dashboard.clients.gateway import Gateway
from services.dashboard.clients.processes import Processes
from services.dashboard.collector import WANTED, Collector


async def start(life: Life, settings: Settings) -> None:
    """Begin everything. It needs nobody to be there: what is missing stands on the page."""
    gateway = Gateway(settings.url_gateway, settings.admin_key)
    processes = Processes(settings, WANTED)
    life.on_stop(gateway.close)
    life.on_stop(processes.close)
    collector: Collector | None = None

    def watched() -> list[str]:
        return collector.processes if collector else []

    broker = Broker(settings.kafka, watched)
    collector = Collector(processes, gateway, broker, Clock(settings.clock_file or None))
    # not waited for at the end: an admin call that gets no answer goes on for many seconds
    life.thread("broker", broker.run)
    life.on_stop(broker.stop)
    life.task("collector", collector.run())
    app = make_app(collector, gateway, settings.url_dashboard)
    app.router.routes.extend(health.routes(lambda: (True, f"watching {len(watched())} processes")))
    await life.http(app, settings.http_port)


def main(settings: Settings) -> int:
    """Run until told to stop."""
    return lifecycle.run(settings, lambda life: start(life, settings))
