"""Topics on the broker, made and checked from the catalogue."""

from dataclasses import dataclass

from rondo_cli import broker
from rondo_common.catalogue import TOPICS


def create_catalogue(bootstrap: str, partitions: int, replication: int, keep_all: bool = False) -> list[str]:
    """Make every topic of the catalogue that is missing. `partitions` of member-keyed topics;
    `keep_all`: nothing may be deleted by age (test clock). Returns the names made."""
    wanted = {name: (t.count(partitions), replication, t.config(keep_all, replication)) for name, t in TOPICS.items()}
    return broker.create_topics(bootstrap, wanted)


@dataclass(frozen=True)
class Difference:
    """One way in which the broker is not as the catalogue says."""

    topic: str
    what: str


def differences(bootstrap: str, partitions: int) -> list[Difference]:
    """Where the broker's topics differ from the catalogue: missing ones and other partition counts
    (a count is fixed at creation: workers refuse another)."""
    with broker.admin(bootstrap) as client:
        there = broker.partitions(client, broker.topic_names(client) & TOPICS.keys())
    out = []
    for name, topic in TOPICS.items():
        if name not in there:
            out.append(Difference(name, "is missing"))
        elif len(there[name]) != topic.count(partitions):
            out.append(Difference(name, f"has {len(there[name])} partitions, {topic.count(partitions)} are wanted"))
    return out
