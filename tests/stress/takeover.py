"""How long the work of a killed worker lies: from the kill until every partition with work has moved on."""

import time
from contextlib import suppress

from kafka.errors import KafkaError

from rondo_cli import broker
from rondo_common.catalogue import TOPICS
from tests.stress.lab import World

FEED = {
    "profiles": "rondo.events.v1",
    "segmentation": "rondo.member-events.v1",
    "campaigns": "rondo.member-events.v1",
    "rhythm": "rondo.contacts.v1",
    "delivery-email": "rondo.profiles.v1",
    "delivery-sms": "rondo.profiles.v1",
    "delivery-messaging": "rondo.profiles.v1",
    "egress": "rondo.member-events.v1",
    "community": "rondo.inbound.v1",
}
"""What shows that a stage works: a topic of which it gets records all the time under load."""
LOOK_S, PATIENCE_S = 0.2, 60.0


def seconds(world: World, stage: str, killed_at: float) -> float | None:
    """Wait until, in each partition in which work lay after the kill, the group has gone on. None when
    nothing came to be done meanwhile."""
    topic, group = FEED[stage], f"rondo.{stage}"
    assert topic in TOPICS
    with broker.admin(world.bootstrap) as client:
        where = broker.all_partitions(client, [topic])
        first = {tp: o for tp, o in broker.committed(client, [group])[group].items() if tp in set(where)}
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_S:
            with suppress(KafkaError):
                ends = broker.ends(client, where)
                now = broker.committed(client, [group])[group]
                waiting = [tp for tp in where if ends[tp] > first.get(tp, 0) and now.get(tp, 0) <= first.get(tp, 0)]
                moved = any(now.get(tp, 0) > first.get(tp, 0) for tp in where)
                if moved and not waiting:
                    return time.monotonic() - killed_at
                if not moved and not waiting and time.monotonic() - begun > 10:
                    return None
            time.sleep(LOOK_S)
    raise AssertionError(f"{stage} did not go on within {PATIENCE_S:.0f} s")
