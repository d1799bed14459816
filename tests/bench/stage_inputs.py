"""What the stages of the chain read in the bench: a shop's events as ingestion writes them, and definitions as
the services' requests write them."""

import asyncio
from collections.abc import Sequence

import msgspec

from rondo_common import topics
from rondo_common.catalogue import TOPICS
from rondo_common.clock import Clock
from rondo_common.commands import CommandWriter
from rondo_common.definitions import DefinitionStore
from rondo_common.kafka import producer
from rondo_common.settings import Settings
from rondo_common.streams.commit import produce
from services.campaigns.campaign_rules import parse_campaign
from services.campaigns.requests.control import ControlRequests
from services.campaigns.template_rules import parse_template
from services.ingestion.intake import Intake
from services.ingestion.model import Message
from tests.bench.shop import BATCH, SEGMENTS, Shop
from tests.support.spine_people import CONTENT

WORKSPACE = "demo"
_OFFERS = {"class": "marketing", "topic": "offers", "template": "all", "channels": ["email"]}
CAMPAIGNS = {
    "spring": {"type": "broadcast", **_OFFERS, "audience": {"segment": "anybody"}, "schedule": {"at": "now"}},
    "thanks": {"type": "triggered", **_OFFERS, "trigger": {"event": "Order Completed"}, "reentry": "always"},
}
ANYBODY = {"trait": {"field": "email", "operator": "exists"}}


class _Sink:
    """Ingestion's sink, without its bounds."""

    def __init__(self, bootstrap: str):
        self.producer = producer(bootstrap, "bench-feed", queue_buffering_max_messages=1_000_000)
        self.records = 0

    async def write(self, messages: Sequence[Message], at: int) -> None:
        for m in messages:
            produce(self.producer, topic=m.topic, key=m.key, value=m.value, headers=m.headers, timestamp=at)
        self.records += len(messages)
        self.producer.poll(0)

    def ready(self) -> tuple[bool, str]:
        return True, ""


async def events(settings: Settings, count: int) -> int:
    """Write about `count` events of a tenth as many members to rondo.events; how many."""
    sink = _Sink(settings.kafka)
    intake = Intake(sink, Clock(), settings.secret)
    shop = Shop(members=max(BATCH, count // 10))
    for body in (*shop.arrivals(), *consents(shop.members)):
        await intake.take("batch", WORKSPACE, body, strict=True)
    while sink.records < count:
        await intake.take("batch", WORKSPACE, shop.batch(), strict=True)
    if sink.producer.flush(60):
        raise TimeoutError("the events were not acknowledged")
    return sink.records


def consents(members: int) -> list[bytes]:
    said = {"channel": "email", "topic": "offers", "state": "granted", "source": "form", "text_version": "1"}
    found = [
        {"type": "track", "userId": f"u{n}", "messageId": f"c{n}", "event": "Consent Changed", "properties": said}
        for n in range(members)
    ]
    return [msgspec.json.encode({"batch": found[at : at + BATCH]}) for at in range(0, members, BATCH)]


async def definitions(settings: Settings) -> None:
    """Define the segments, a template, a broadcast and a triggered campaign, and start both."""
    clock = Clock()
    commands = CommandWriter(settings, clock)
    store = DefinitionStore(settings, clock, commands)
    store.start()
    try:
        while not store.ready()[0]:
            await asyncio.sleep(0.02)
        for name, rule in {**SEGMENTS, "anybody": ANYBODY}.items():
            await store.put(WORKSPACE, "segment", name, {"name": name, "rule": rule}, "bench", None)
        _, template = parse_template(msgspec.json.encode(CONTENT))
        await store.put(WORKSPACE, "template", "all", template, "bench", None)
        control = ControlRequests(store, commands, clock)
        for name, campaign in CAMPAIGNS.items():
            _, body = parse_campaign(msgspec.json.encode(campaign))
            await store.put(WORKSPACE, "campaign", name, body, "bench", None)
            await control.start(WORKSPACE, name, "bench", "bench")
    finally:
        store.stop()
        commands.close()


def of(stage: str) -> list[str]:
    """The topics a stage of the catalogue reads, its own state left out."""
    return [t.name for t in TOPICS.values() if stage in t.readers and t.name != topics.DEFINITIONS]
