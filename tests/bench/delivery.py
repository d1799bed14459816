"""The e-mail worker alone: sends lie ready on its topic, an SMTP sink takes what it makes of them.

A broker and a Redis of the bench's own, the worker as shipped, nothing else. Members, their profiles and
the template are folded first; then the worker is stopped, the sends are written, and it is started again,
so that nobody else uses a core while it works. Counted from the first mail to the last recorded outcome.
Beside it: prebuilt bytes of the same size pushed through as many connections to the same sink, and a bare loop over the
same sends that does only what the promises ask for each of them (`baselines/bare_delivery.py`).
"""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rondo_common import topics
from rondo_common.partition import PARTITIONS
from tests.bench.delivery_desk import BARE, Desk, touch
from tests.bench.frame import TICKS, Figure, Usage, World, baseline, hottest, metric
from tests.bench.sink import Sink
from tests.support.service_process import ServiceProcess

NAME = "delivery"
TITLE = "the e-mail worker alone: personalised mails from its topic to an SMTP sink"
MAILS, QUICK = 50_000, 1_000
GOAL_CPU = 0.03
CONNECTIONS = 16
PATIENCE_S = 120.0


def _metrics(service: ServiceProcess, *names: str) -> list[float]:
    return [metric(f"{service.http}/metrics", name) for name in names]


def _until(true: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not come to pass: {what}")
        time.sleep(0.05)


def run(world: World) -> list[Figure]:
    """One run on fresh servers."""
    mails = world.size(MAILS, QUICK)
    desk = Desk(world)
    try:
        with Sink() as sink:
            desk.members(mails)
            service = desk.worker(world, sink)
            with service:
                folded = PARTITIONS + 2 * mails
                _until(lambda: _metrics(service, "rondo_stream_records_total")[0] >= folded, "members are folded")
            desk.sends(mails)
            with service:
                measured = measure(desk, service, sink, mails)
            sink.reset()
            raw = baseline("smtp_raw", sink.address, mails, CONNECTIONS, round(measured["bytes"] / mails))
            sink.reset()
            sends = topics.sends("email", "bulk")
            bare = baseline(
                "bare_delivery", desk.bootstrap, desk.redis_url, sink.address, sends, *BARE, mails, CONNECTIONS
            )
            return figures(measured, raw, bare, mails)
    finally:
        desk.stop()


def _threads(pid: int) -> dict[str, float]:
    """CPU seconds of a process by its threads: Kafka's client, the main one, and others by their number."""
    found: dict[str, float] = {}
    for place in sorted(Path(f"/proc/{pid}/task").glob("*"), key=lambda p: int(p.name)):
        try:
            name = (place / "comm").read_text().strip()
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        who = "librdkafka" if name.startswith("rdk:") else "main" if int(place.name) == pid else place.name
        found[who] = found.get(who, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


def measure(desk: Desk, service: ServiceProcess, sink: Sink, mails: int) -> dict[str, Any]:
    """From the first mail to the last outcome. RuntimeError when a mail is missing or came twice."""
    pids = {**desk.pids, "worker": service.pid, "sink": sink.pid}
    _until(lambda: sink.stats()["messages"] > 0, "the first mail")
    before, calls = Usage.of_pids(**pids), desk.redis_commands()
    begun, threads = sink.stats()["messages"], _threads(service.pid)
    transactions = _metrics(service, "rondo_stream_transactions_total")[0]
    lines = hottest(service.pid, 3) if PROFILE else []
    outcome = "rondo_stream_emitted_total"
    _until(lambda: sink.stats()["messages"] >= mails, "all mails")
    _until(lambda: _metrics(service, outcome)[0] >= mails, "all outcomes")
    after, seen, done = Usage.of_pids(**pids), sink.stats(), _threads(service.pid)
    got = Counter(sink.message_ids())
    if got != Counter(touch(n) for n in range(mails)):
        raise RuntimeError(f"{seen['messages']} mails of {len(got)} touches, not one of each of {mails}")
    counted = mails - begun
    late = desk.redis_commands()
    return {
        "bytes": seen["bytes"],
        "rate": counted / (seen["last"] - seen["first"]),
        "cpu": {name: s / counted * 1e6 for name, s in (after - before).items()},
        "threads": {name: (done[name] - threads.get(name, 0.0)) / counted * 1e6 for name in done},
        "rss": after.rss["worker"],
        "transactions": _metrics(service, "rondo_stream_transactions_total")[0] - transactions,
        "redis": {c: (late[c] - calls.get(c, 0)) / counted for c in late},
        "hottest": lines,
    }


PROFILE = False
"""True when run by hand with --profile: prints the worker's hottest lines."""


def figures(m: Mapping[str, Any], raw: Mapping[str, float], bare: Mapping[str, Any], mails: int) -> list[Figure]:
    cpu = m["cpu"]
    details: dict[str, float | str] = {
        **{f"CPU µs {name} a mail": round(us, 1) for name, us in cpu.items()},
        "transactions": m["transactions"],
        "mails a transaction": round(mails / max(1, m["transactions"]), 1),
        "bytes a mail": round(m["bytes"] / mails),
        "RSS MiB worker": round(m["rss"]),
    }
    details |= {f"Redis {c} a mail": round(n, 3) for c, n in m["redis"].items() if n > 0.02}
    for number, (name, us) in enumerate(sorted(m["threads"].items(), key=lambda kv: -kv[1])):
        if us >= 1:
            name = name if name in ("main", "librdkafka") else f"thread {number}"
            details[f"CPU µs {name} a mail"] = round(us, 1)
    for at, line in enumerate(m["hottest"]):
        details[f"hot {at:02d}"] = line
    pushed, least = (found["cpu_s"] / found["messages"] * 1000 for found in (raw, bare))
    steps: dict[str, float | str] = {f"CPU µs bare, {what}": round(us, 1) for what, us in bare["cpu"].items()}
    return [
        Figure(
            "CPU of the worker",
            cpu["worker"] / 1000,
            "CPU s/1k",
            False,
            pushed,
            "prebuilt bytes pushed",
            GOAL_CPU,
            details,
        ),
        Figure(
            "CPU beside the least",
            cpu["worker"] / 1000,
            "CPU s/1k",
            False,
            least,
            "bare loop, same promises",
            None,
            steps,
        ),
        Figure("mails", m["rate"], "mails/s", True, raw["per_s"], "prebuilt bytes pushed"),
    ]
