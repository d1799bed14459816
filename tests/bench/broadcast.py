"""A broadcast to 50,000 members, from the API call to the last mail at an SMTP sink.

The whole system as shipped, but that delivery's SMTP server is the bench's sink. The members come in
through the door once, for all runs, and everything is drained before each start. Reported: wall time to
the first and to the last mail, CPU of all processes until nothing is left to do anywhere, and that each
member got one mail. A peer on the same kind of machine, listmonk 6.2 with PostgreSQL: 8.1 s (5 s of it
waiting for its scan), 15,000 mails/s while sending, 0.075 CPU s/1k.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.frame import Figure, Usage, World, baseline, per_record, per_second, per_thousand, transactions
from tests.bench.sink import Sink
from tests.support.spine_api import Api, until
from tests.support.stack import Stack

NAME = "broadcast"
TITLE = "a broadcast of personalised mails, from the API call to the last one at an SMTP sink"
MEMBERS, QUICK = 50_000, 2_000
GOAL_S, GOAL_CPU = 8.0, 0.25
SEGMENT, TEMPLATE = "bench-everybody", "bench-mail"
CONNECTIONS = 16
MAIL = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "{{ member.firstName }}, spring is here",
        "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ member.firstName }}, new records from "
        "{{ member.city }} are in. <a href='https://shop.example/new'>Look</a> "
        "<a href='{{ links.unsubscribe }}'>Unsubscribe</a></mj-text></mj-column></mj-section></mj-body></mjml>",
    },
}
CAMPAIGN = {
    "type": "broadcast",
    "class": "marketing",
    "topic": "offers",
    "template": TEMPLATE,
    "channels": ["email"],
    "audience": {"segment": SEGMENT},
    "schedule": {"at": "now"},
}


class Place:
    """A stack with its members and a sink, for all runs of one command."""

    def __init__(self, quick: bool):
        self.members = QUICK if quick else MEMBERS
        self.runs = 0
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rondo-broadcast-")))
            self.sink = opened.enter_context(Sink())
            self.stack = Stack(folder, env={"RONDO_SMTP_URL": f"smtp://{self.sink.address}"})
            opened.callback(self.stack.stop)
            self.api = opened.enter_context(Api(self.stack))
            prepare(self.api, self.members)
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()


def run(world: World) -> list[Figure]:
    """One broadcast, and the bare push of as many mails of the same size to the same sink."""
    place = world.shared.get(NAME)
    if not isinstance(place, Place):
        place = world.shared[NAME] = Place(world.quick)
    place.runs += 1
    seen = broadcast(place.stack, place.api, place.sink, f"bench-{place.runs}")
    return figures(seen, baseline("smtp_raw", place.sink.address, place.members, CONNECTIONS, seen.size))


def done(shared: dict[str, object]) -> None:
    """The last run is over."""
    place = shared.pop(NAME, None)
    if isinstance(place, Place):
        place.close()


# the members


def address(n: int) -> str:
    """E-mail address of the n-th member."""
    return f"m{n:06d}@example.com"


def _events(n: int, at: str) -> Iterator[dict[str, Any]]:
    user = f"m{n:06d}"
    traits = {"email": address(n), "firstName": f"Name{n}", "city": ("Paris", "Rome", "Oslo")[n % 3], "plan": "gold"}
    yield {"type": "identify", "userId": user, "timestamp": at, "messageId": f"{user}-i", "traits": traits}
    said = {"channel": "email", "topic": "offers", "state": "granted", "source": "form"}
    yield {
        "type": "track",
        "event": "Consent Changed",
        "userId": user,
        "timestamp": at,
        "messageId": f"{user}-c",
        "properties": said,
    }


def prepare(api: Api, members: int) -> None:
    """Members through the door, the segment they are in and the template; then wait until all of it is done."""
    api.put(f"/v1/templates/{TEMPLATE}", MAIL)
    rule = {"trait": {"field": "plan", "operator": "eq", "value": "gold"}}
    api.put(f"/v1/segments/{SEGMENT}", {"name": "Everybody", "rule": rule})
    at = datetime.now(UTC).isoformat()

    def post(first: int) -> None:
        batch = [e for n in range(first, min(first + 50, members)) for e in _events(n, at)]
        body = json.dumps({"batch": batch}).encode()
        headers = {"content-type": "application/json"}

        def taken() -> bool:
            return api.door.post("/v1/batch", content=body, headers=headers).status_code == 200

        until(taken, "a batch taken", 60, 0.5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(post, range(0, members, 50)))
    api.drain(240)
    api.live(SEGMENT, members)


# the broadcast


@dataclass(frozen=True)
class Broadcast:
    """What one run showed. Times in seconds after the API call."""

    first: float
    last: float
    settled: float
    drained: float
    members: int
    repeated: int
    size: int
    """Bytes of a mail on average."""
    run: Mapping[str, Any]
    cpu_last: Mapping[str, float]
    """CPU seconds by process until the last mail ..."""
    cpu: Mapping[str, float]
    """... and until everything was drained."""
    sink_cpu: float
    transactions: Counter[str]
    rss: Mapping[str, float]


def broadcast(stack: Stack, api: Api, sink: Sink, name: str) -> Broadcast:
    """Start a new campaign over all members and wait until nothing is left to do."""
    api.put(f"/v1/campaigns/{name}", CAMPAIGN)
    members = api.get(f"/v1/segments/{SEGMENT}")["count"]
    api.drain()
    sink.reset()
    made, before = transactions(stack), Usage.of(stack, sink=sink.pid)
    began = time.time()
    run_id = api.post(f"/v1/campaigns/{name}/start", key=name)["run_id"]
    until(lambda: sink.stats()["messages"] >= members, "the last mail", 240, 0.05)
    after_last = Usage.of(stack, sink=sink.pid) - before
    ended = api.finished(run_id, 120)
    settled = time.time() - began
    api.drain(240)
    drained = time.time() - began
    after = Usage.of(stack, sink=sink.pid)
    spent = after - before
    seen = sink.stats()
    got = Counter(sink.recipients())
    assert ended["counts"]["sent"] == ended["touches"] == members, ended
    assert got.keys() == {address(n) for n in range(members)}, f"{len(got)} of {members} got a mail"
    return Broadcast(
        first=seen["first"] - began,
        last=seen["last"] - began,
        settled=settled,
        drained=drained,
        members=members,
        repeated=seen["messages"] - len(got),
        size=round(seen["bytes"] / seen["messages"]),
        run=ended,
        cpu_last={n: s for n, s in after_last.items() if n != "sink"},
        cpu={n: s for n, s in spent.items() if n != "sink"},
        sink_cpu=spent["sink"],
        transactions=transactions(stack) - made,
        rss=after.rss,
    )


def figures(b: Broadcast, raw: Mapping[str, float]) -> list[Figure]:
    """As the frame shows them."""
    assert b.repeated == 0, f"{b.repeated} mails came twice"
    times: dict[str, float | str] = {
        "first mail s": round(b.first, 3),
        "mails/s while sending": round(b.members / (b.last - b.first)),
        "run settled s": round(b.settled, 2),
        "everything drained s": round(b.drained, 2),
        "transactions": float(b.transactions.total()),
        **per_second(b.transactions, b.drained),
        "mails": b.members,
        "bytes a mail": b.size,
    }
    used: dict[str, float | str] = {
        **per_record(b.cpu, b.members),
        "CPU s/1k until the last mail": round(per_thousand(b.cpu_last, b.members), 4),
        "CPU s/1k sink": round(b.sink_cpu / b.members * 1000, 4),
        **{f"rss MiB {name}": round(mib) for name, mib in sorted(b.rss.items(), key=lambda kv: -kv[1])[:6]},
    }
    push = "bare push of prebuilt mails"
    pushed = raw["cpu_s"] / raw["messages"] * 1000
    return [
        Figure("API call to the last mail", b.last, "s", False, raw["seconds"], push, GOAL_S, times),
        Figure("CPU in all processes", per_thousand(b.cpu, b.members), "CPU s/1k", False, pushed, push, GOAL_CPU, used),
    ]
