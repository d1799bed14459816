"""The links process: one HTTP server, one producer."""

from rondo_common import kafka, lifecycle
from rondo_common.clock import Clock
from rondo_common.lifecycle import Life
from rondo_common.links import Signer
from rondo_common.settings import Settings
from services.links.api import Api, make_app
from services.links.sink import QUEUE, Sink


def main(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    return lifecycle.run(settings, lambda life: start(life, settings))


async def start(life: Life, settings: Settings) -> None:
    """Begin everything this process does. It needs nobody to be there: redirects work without Kafka."""
    producer = kafka.producer(settings.kafka, "links", queue_buffering_max_messages=QUEUE, linger_ms=1)
    sink = Sink(producer)
    life.thread("engagement", sink.run, sink.stop)

    def ready() -> tuple[bool, str]:
        if sink.late:
            return True, f"Kafka does not answer: links lead on, {sink.waiting()} opens and clicks wait to be written"
        return True, ""

    api = Api(Signer(settings.secret), sink, Clock(settings.clock_file or None))
    await life.http(make_app(api, ready), settings.http_port, shared_port=settings.shared_port)
