"""Starts the ingestion process."""

from rondo_common import lifecycle, telemetry
from rondo_common.clock import Clock
from rondo_common.definitions import DefinitionStore
from rondo_common.keys import Keys
from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from services.ingestion import api
from services.ingestion.callbacks.marks import RedisMarks
from services.ingestion.producer import KafkaSink

log = telemetry.logger(__name__)


def main(settings: Settings) -> int:
    """Run until told to end; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything; returns once the port is open."""
    clock = Clock(settings.clock_file or None)
    sink = KafkaSink(settings.kafka, f"ingestion.{settings.slot}")
    life.on_stop(sink.close)
    life.task("kafka", sink.run())
    definitions = DefinitionStore(settings, clock)
    keys = Keys(settings, definitions)
    definitions.start()
    life.on_stop(definitions.stop)
    marks = RedisMarks(settings.redis)
    life.on_stop(marks.aclose)
    application = api.build(settings, sink, keys, clock, marks)
    life.task("imports", application.runner.run())
    # nothing here asks for the caller's address, and looking for it costs a tenth of a small call
    await life.http(application.asgi, settings.http_port, shared_port=settings.shared_port, behind_proxy=False)
