"""What `rondo up` does between "all processes answer" and "ready": warm the paths.

The first records on new topics are slow (a second or more: the offsets topic is made, leaders are
asked for, producers get their ids). So every topic the services use is touched once by asking for
its end, and each HTTP door once for its health. A canary through each whole path goes here.
"""

import asyncio
from collections.abc import Callable

from rondo_cli.local import probe
from rondo_cli.local.plan import Plan


async def run(plan: Plan, say: Callable[[str], None]) -> None:
    """Warm the running stack of `plan`. Never fails the start: what goes wrong is said."""
    doors = [i.ports["http"] for i in plan.instances]
    for path in ("/healthz", "/metrics"):
        await asyncio.gather(*(probe.get(port, path) for port in doors))
    try:
        await asyncio.to_thread(_touch_topics, plan)
    except Exception as e:
        say(f"warming the topics failed: {e}")


def _touch_topics(plan: Plan) -> None:
    from rondo_cli import broker
    from rondo_common.catalogue import TOPICS

    with broker.admin(plan.addresses.kafka) as client:
        broker.ends(client, broker.all_partitions(client, [t for t in TOPICS if not t.endswith(".dlq")]))
