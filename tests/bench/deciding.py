"""What each stage's decisions cost, without Kafka and Redis: CPU of one thread, quiet on a busy machine.

    python -m tests.bench.deciding [--members 5000] [--events 20000] [--profile STAGE]

The stages run in turns over logs and states in memory, by the loop's own code (decide.py): reading, finding
the states, deciding, encoding. A shop's events come first, then a broadcast to all members, whose sends are
accepted at once. What the Kafka client, Redis and the transactions cost is not in it: `rondo bench stages`.

Neighbours on the machine slow a thread down two or three times over. So each batch is followed by a piece of
fixed work, and what the batch took is counted in that: figures are in units of it, times UNIT_US.
"""

import argparse
import asyncio
import cProfile
import gc
import pstats
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.partition import PARTITIONS
from rondo_common.records import Command, Definition, Delivery, Send
from rondo_common.stage import Record
from services.campaigns.campaign_rules import parse_campaign
from services.campaigns.streams import CampaignsStage
from services.campaigns.template_rules import parse_template
from services.egress.streams import EgressStage
from services.ingestion.intake import Intake
from services.ingestion.model import Message
from services.profiles.streams import ProfilesStage
from services.rhythm.streams import RhythmStage
from services.segmentation.streams import SegmentationStage
from tests.bench.deciding_runs import Log, Runs, now_ms
from tests.bench.shop import BATCH, SEGMENTS, Shop
from tests.bench.stage_inputs import ANYBODY, CAMPAIGNS, WORKSPACE, consents
from tests.support.spine_people import CONTENT

SECRET = "bench"
SENDS = tuple(topics.sends("email", lane) for lane in topics.LANES)


class Sender:
    """Delivery: takes every send at once."""

    def __init__(self, log: Log):
        self._log = log
        self._read: Counter[tuple[str, int]] = Counter()

    def turn(self) -> bool:
        moved = False
        for topic in SENDS:
            for p in range(PARTITIONS):
                log = self._log.at[topic, p]
                for r in log[self._read[topic, p] :]:
                    self._accept(r)
                    moved = True
                self._read[topic, p] = len(log)
        return moved

    def _accept(self, r: Record) -> None:
        s = msgspec.json.decode(r.value, type=Send)
        id = ids.derived(r.cause, f"email:{s.touch_id}:accepted")
        same = {
            f: getattr(s, f) for f in ("attempt", "campaign", "run_id", "version", "step", "lane", "topic", "class_")
        }
        at = now_ms()
        told = Delivery(
            s.workspace,
            id,
            s.touch_id,
            s.member_id,
            "email",
            "smtp",
            "accepted",
            iso(at),
            provider_id=f"<{id}>",
            **same,
        )
        headers = {**r.headers, "ce_id": id, "ce_type": "delivery.accepted", "ce_source": "/rondo/delivery-email"}
        self._log.put(topics.DELIVERIES, r.key, msgspec.json.encode(told), headers, at, None)


class _Sink:
    """Ingestion's sink."""

    def __init__(self, log: Log):
        self._log = log
        self.records = 0

    async def write(self, messages: Sequence[Message], at: int) -> None:
        for m in messages:
            key = m.key if isinstance(m.key, str) else m.key.decode()
            headers = {k: v.decode() if isinstance(v, bytes) else v for k, v in m.headers}
            self._log.put(m.topic, key, m.value, headers, at, None)
        self.records += len(messages)

    def ready(self) -> tuple[bool, str]:
        return True, ""


class Chain:
    """All stages over one log."""

    def __init__(self, members: int, segments: bool = True):
        self.log = Log()
        self.shop = Shop(members)
        self._sink = _Sink(self.log)
        self._intake = Intake(self._sink, _Clock(), SECRET)
        stages = (
            ProfilesStage(SECRET),
            SegmentationStage(SECRET),
            CampaignsStage(),
            RhythmStage(SECRET),
            EgressStage(),
        )
        self.stages = {s.name: Runs(s, self.log) for s in stages}
        self._sender = Sender(self.log)
        rules = {**(SEGMENTS if segments else {}), "anybody": ANYBODY}
        for name, rule in rules.items():
            self._define("segment", name, {"name": name, "rule": rule})
        self._define("template", "all", parse_template(msgspec.json.encode(CONTENT))[1])
        for name, campaign in CAMPAIGNS.items():
            self._define("campaign", name, parse_campaign(msgspec.json.encode(campaign))[1])
        self.settle()

    def _define(self, kind: str, id: str, body: object) -> None:
        raw = msgspec.Raw(msgspec.json.encode(body))
        d = Definition(WORKSPACE, kind, id, 1, raw, iso(now_ms()), "bench")
        self._command(Command("definition.activated", WORKSPACE, f"{kind}-{id}", iso(now_ms()), definition=d))

    def _command(self, command: Command) -> None:
        for p in range(PARTITIONS):
            headers = {"ce_id": f"{command.id}.{p}", "ce_type": command.kind}
            self.log.put(topics.COMMANDS, f"x:{command.id}", msgspec.json.encode(command), headers, now_ms(), p)

    def post(self, bodies: Iterable[bytes]) -> None:
        async def take() -> None:
            for body in bodies:
                await self._intake.take("batch", WORKSPACE, body, strict=True)

        asyncio.run(take())

    def arrive(self) -> None:
        self.post([*self.shop.arrivals(), *consents(self.shop.members)])
        self.settle()

    def events(self, count: int) -> None:
        self.post(self.shop.batch() for _ in range(count // BATCH))
        self.settle()

    def start(self, campaign: str, kind: str, segment: str | None = None) -> None:
        data = msgspec.Raw(msgspec.json.encode({"kind": kind, "segment": segment}))
        at = iso(now_ms())
        self._command(
            Command(
                "run.start",
                WORKSPACE,
                f"run-{campaign}",
                at,
                campaign=campaign,
                version=1,
                run_id=f"r-{campaign}",
                data=data,
            )
        )
        self.settle()

    def settle(self) -> None:
        while any([s.turn() for s in (*self.stages.values(), self._sender)]):
            pass

    def reset(self) -> None:
        for s in self.stages.values():
            if s.dead:
                raise AssertionError(f"{s.stage.name}: dead letters: {Counter(s.dead).most_common(3)}")
            s.spent.clear()
            s.pace.clear()
            s.inputs.clear()

    def table(self, title: str, units: int) -> None:
        print(f"\n{title}: CPU µs each, over {units:,}")
        for name, s in self.stages.items():
            rows = ", ".join(
                f"{what.removeprefix('rondo.').removesuffix('.v1')} {s.pace[what] / n * 1e6:.1f} x {n / units:.2f}"
                for what, n in sorted(s.inputs.items())
                if n and s.pace[what] / units * 1e6 >= 0.05
            )
            whole, raw = (sum(by.values()) / units * 1e6 for by in (s.pace, s.spent))
            print(f"  {name:13} {whole:6.1f} ({raw:5.1f})   {rows}")
        self.reset()


class _Clock:
    frozen = False

    def now(self) -> int:
        return now_ms()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--profile", default="", help="a stage: show where its time goes")
    parser.add_argument(
        "--part", default="all", choices=("all", "arrivals", "events", "broadcast"), help="of the profile"
    )
    options = parser.parse_args()
    gc.set_threshold(200_000)
    chain = Chain(options.members)
    gc.freeze()
    chain.reset()
    profile = cProfile.Profile()

    def watch(part: str) -> None:
        if options.profile:
            on = options.part in ("all", part)
            chain.stages[options.profile].profile = profile if on else None

    watch("arrivals")
    chain.arrive()
    chain.table("arrivals (an identify and a consent a member)", options.members)
    chain.start("thanks", "triggered")
    chain.reset()
    watch("events")
    chain.events(options.events)
    chain.table("a shop's events", options.events // BATCH * BATCH)
    watch("broadcast")
    chain.start("spring", "broadcast", "anybody")
    chain.table("a broadcast's mails", options.members)
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
