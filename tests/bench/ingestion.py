"""The door: events a second acknowledged by Kafka, in batches and one by one.

Everything runs on this machine's cores together: load generator, ingestion, broker. After each case the
events on the topic are counted: what was answered 200 is there.
"""

import json
import random
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from rondo_cli import broker
from rondo_cli.local import ports, process
from rondo_common.topics import EVENTS
from tests.bench.frame import Figure, Usage, World, baseline, per_record
from tests.bench.load import Load, drive
from tests.support.stack import Stack

NAME = "ingestion"
TITLE = "the door: batches of 100 and single calls, answered after Kafka's acknowledgement"

BASELINES = Path(__file__).parent / "baselines"
POOL = 256
BATCH = 100
INSTANCES = 2
"""Processes on the one port, as many as the machine of the goals has cores."""

CASES = (
    ("batch", 64, 45_000.0),
    ("track", 16, 4_000.0),
    ("track", 64, 8_000.0),
    ("track", 256, 14_000.0),
)
"""Call, connections, goal in events a second (DESIGN 12)."""


def event(i: int, rnd: random.Random) -> dict[str, Any]:
    """A Segment track call of about 495 bytes, the same that the figures of other systems were taken with."""
    return {
        "type": "track",
        "event": rnd.choice(["Product Viewed", "Product Added", "Order Completed", "Link Clicked"]),
        "userId": f"member-{rnd.randrange(1_000_000)}",
        "anonymousId": str(uuid.UUID(int=rnd.getrandbits(128))),
        "messageId": str(uuid.UUID(int=rnd.getrandbits(128))),
        "timestamp": f"2026-01-15T10:{i % 60:02d}:{i * 7 % 60:02d}.123Z",
        "originalTimestamp": "2026-01-15T10:00:00.123Z",
        "sentAt": "2026-01-15T10:00:00.500Z",
        "properties": {
            "product_id": f"sku-{rnd.randrange(10_000)}",
            "price": round(rnd.random() * 100, 2),
            "quantity": rnd.randrange(1, 5),
            "currency": "EUR",
            "category": "outdoor",
        },
        "context": {
            "ip": f"10.0.0.{i % 250}",
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "2.11.1"},
        },
    }


def prepare(folder: Path, pool: int = POOL) -> dict[str, Path]:
    """Files of bodies, one a line: `track` (single calls) and `batch`, so many batches."""
    rnd = random.Random(1)
    events = [event(i, rnd) for i in range(pool * BATCH)]
    batches = [{"batch": events[k * BATCH : (k + 1) * BATCH], "sentAt": "2026-01-15T10:00:01Z"} for k in range(pool)]
    files = {}
    for name, bodies in (("track", events[:pool]), ("batch", batches)):
        files[name] = folder / f"{name}.txt"
        files[name].write_text("".join(json.dumps(b, separators=(",", ":")) + "\n" for b in bodies))
    return files


def stored(bootstrap: str) -> int:
    """Records on the events topic."""
    with broker.admin(bootstrap) as client:
        return sum(broker.ends(client, broker.all_partitions(client, [EVENTS])).values())


def run(world: World) -> list[Figure]:
    """One run; see the module."""
    files = prepare(world.folder)
    seconds = world.size(8, 1)
    cases = CASES if not world.quick else (CASES[0], CASES[2])
    with bare_http(world.folder) as url:
        http = {(c, n): drive(f"{url}/v1/{c}", files[c], n, world.size(3, 1), warm=0.5) for c, n, _ in cases}
    with world.stack(only=("ingestion",), scale={"ingestion": INSTANCES}) as stack:
        produce = bare_produce(stack, files["track"], world.size(400_000, 50_000))
        return [figure(stack, files[call], call, n, goal, seconds, http[call, n], produce) for call, n, goal in cases]


def figure(
    stack: Stack, bodies: Path, call: str, connections: int, goal: float, seconds: float, http: Load, produce: float
) -> Figure:
    """Measure one case. AssertionError when an answered event is not on the topic."""
    per = BATCH if call == "batch" else 1
    before, usage = stored(stack.kafka), Usage.of(stack)
    load = drive(f"{stack.http('ingestion')}/v1/{call}", bodies, connections, seconds, stack.write_key)
    spent = Usage.of(stack)
    kept = stored(stack.kafka) - before
    # a call answered 503, or cut off at the end of wrk's time, may have been kept all the same
    exact = load.tool != "wrk" and not load.failed
    right = kept == load.answered * per if exact else kept >= load.answered * per
    assert right, f"{load.answered * per} events were answered, {kept} are on the topic"
    details: dict[str, float | str] = {
        "p50 ms": round(load.p50, 1),
        "p99 ms": round(load.p99, 1),
        "not answered 200": load.failed,
        "stored": kept,
        **per_record(spent - usage, kept, 0.5),
        "CPU µs load": round(load.cpu_s / max(1, kept) * 1e6, 1),
        "rss MiB ingestion": round(spent.rss.get("ingestion", 0.0)),
        "HTTP alone /s": round(http.rate * per),
        "produce alone /s": round(produce),
        "load by": load.tool,
        "processes": INSTANCES,
    }
    base, name = (produce, "bare producer, acks=all") if per > 1 else (http.rate, "bare ASGI, nothing stored")
    title = f"batches of {per}" if per > 1 else "single calls"
    return Figure(f"{title}, {connections} connections", load.rate * per, "events/s", True, base, name, goal, details)


@contextmanager
def bare_http(folder: Path) -> Iterator[str]:
    """The HTTP baseline, serving; its base URL."""
    port = ports.free_ports(1)[0]
    child = process.spawn([sys.executable, str(BASELINES / "http_bare.py"), str(port)], folder / "http_bare.log")
    try:
        deadline = time.monotonic() + 20
        while not ports.held_by(port, {child.pid}):
            assert child.poll() is None and time.monotonic() < deadline, "the HTTP baseline does not start"
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port}"
        httpx.post(f"{url}/v1/batch", content=b'{"batch":[]}').raise_for_status()
        yield url
    finally:
        process.stop(child)


def bare_produce(stack: Stack, values: Path, events: int) -> float:
    """Events/s of the bare producer on a topic of its own with the same settings."""
    topic = f"bench.bare.{uuid.uuid4().hex[:8]}"
    broker.create_topics(stack.kafka, {topic: (8, 1, {})})
    found = baseline("produce_bare", stack.kafka, topic, events, str(values))
    return float(found["events"] / found["seconds"])
