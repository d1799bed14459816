"""Drives the campaigns stage: definitions, members, commands and reports in a line each."""

import json
import uuid
from typing import Any

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.records import (
    Command,
    Decision,
    Definition,
    Delivery,
    Engagement,
    MemberEvent,
    MembershipChange,
    RunPart,
    Touch,
)
from services.campaigns.run_counts import shown
from services.campaigns.streams import CampaignsStage
from tests.support.stage_driver import Emitted, StageDriver

WORKSPACE = "demo"
START = 1_790_000_000_000
BROADCAST = {
    "type": "broadcast",
    "class": "marketing",
    "topic": "offers",
    "template": "spring",
    "channels": ["email", "sms"],
    "audience": {"segment": "loyal"},
}
TRIGGERED = {
    "type": "triggered",
    "class": "marketing",
    "topic": "offers",
    "template": "spring",
    "channels": ["email"],
    "trigger": {"event": "Cart Abandoned"},
}


def member(n: int) -> str:
    """The id of the n-th member: as in production a UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"member {n}"))


class World:
    """A stage with its driver. `partitions` few, so that tests stay quick."""

    def __init__(self, partitions: int = 2, clock: int = START):
        self.driver = StageDriver(CampaignsStage(), clock=clock, partitions=partitions)
        self.partitions = partitions
        self._count = 0
        self._versions: dict[tuple[str, str], int] = {}

    def _id(self) -> str:
        self._count += 1
        return f"id-{self._count}"

    # commands

    def to_all(self, command: Command) -> None:
        for p in range(self.partitions):
            headers = {"ce_id": f"{command.id}.{p}"}
            self.driver.feed(topics.COMMANDS, f"{WORKSPACE}:all", command, partition=p, headers=headers)

    def command(self, kind: str, **more: Any) -> Command:
        more.setdefault("id", self._id())
        return Command(kind=kind, workspace=WORKSPACE, at=iso(self.driver.now), **more)

    def define(self, kind: str, id: str, body: dict[str, Any]) -> int:
        version = self._versions[kind, id] = self._versions.get((kind, id), 0) + 1
        raw = msgspec.Raw(json.dumps(body).encode())
        definition = Definition(WORKSPACE, kind, id, version, raw, iso(self.driver.now))
        self.to_all(self.command("definition.activated", definition=definition))
        return version

    def campaign(self, id: str, body: dict[str, Any]) -> int:
        if ("template", body["template"]) not in self._versions:
            self.define("template", body["template"], {"sms": {"text": "hi"}})
        return self.define("campaign", id, body)

    def start(self, campaign: str, run_id: str, kind: str = "broadcast", **data: Any) -> None:
        raw = msgspec.Raw(json.dumps({"kind": kind, **data}).encode())
        version = self._versions["campaign", campaign]
        self.to_all(self.command("run.start", run_id=run_id, campaign=campaign, version=version, data=raw))

    def trigger(self, campaign: str, run_id: str, member_id: str, id: str | None = None, data: Any = None) -> Command:
        raw = None if data is None else msgspec.Raw(json.dumps(data).encode())
        version = self._versions["campaign", campaign]
        command = self.command(
            "trigger",
            id=id or self._id(),
            run_id=run_id,
            campaign=campaign,
            version=version,
            member_id=member_id,
            data=raw,
        )
        self.to_member(topics.COMMANDS, member_id, command, command.id)
        return command

    # what happens to members

    def to_member(self, topic: str, member_id: str, value: Any, cause: str = "", time: int | None = None) -> None:
        headers = {"ce_id": cause} if cause else {}
        self.driver.feed(topic, ids.member_key(WORKSPACE, member_id), value, time, headers=headers)
        self.moves()

    def moves(self) -> None:
        """Deliver what the stage sent to its own other partitions."""
        while moved := self.driver.take(topics.MOVES):
            self.driver.feed_emitted(moved)

    def live(self, segment: str, version: int = 1) -> None:
        now = iso(self.driver.now)
        for p in range(self.partitions):
            change = MembershipChange(WORKSPACE, segment, version, "live", now, now, self._id())
            self.driver.feed(topics.MEMBERSHIP_CHANGES, f"{WORKSPACE}:segment:{segment}", change, partition=p)

    def membership(self, member_id: str, segment: str, change: str = "entered", **more: Any) -> None:
        now = iso(self.driver.now)
        at = more.pop("at", now)
        value = MembershipChange(WORKSPACE, segment, 1, change, at, now, self._id(), member_id, **more)
        self.to_member(topics.MEMBERSHIP_CHANGES, member_id, value, value.id)

    def happened(self, member_id: str, kind: str, **more: Any) -> str:
        id = more.pop("id", None) or self._id()
        at = more.pop("timestamp", iso(self.driver.now))
        value = MemberEvent(WORKSPACE, member_id, kind, id, at, **more)
        self.to_member(topics.MEMBER_EVENTS, member_id, value, id)
        return id

    def track(self, member_id: str, name: str, properties: Any = None, **more: Any) -> str:
        raw = None if properties is None else msgspec.Raw(json.dumps(properties).encode())
        return self.happened(member_id, "track", name=name, properties=raw, **more)

    def merge(self, loser: str, winner: str) -> None:
        self.happened(loser, "member.merged", merged_into=winner)
        self.happened(winner, "member.merged", merged_from=loser)

    # reports on touches

    def decide(self, touch: Touch, verdict: str, reason: str | None = None, attempt: int = 1, **more: Any) -> None:
        decision = Decision(
            workspace=WORKSPACE,
            decision_id=self._id(),
            touch_id=touch.touch_id,
            attempt=attempt,
            campaign=touch.campaign,
            version=touch.version,
            run_id=touch.run_id,
            step=touch.step,
            member_id=more.get("member_id", touch.member_id),
            channel=touch.channels[0],
            decided_at=iso(self.driver.now),
            verdict=verdict,
            gates=[],
            reason=reason,
            lane=touch.lane,
        )
        self.to_member(topics.DECISIONS, decision.member_id, decision, decision.decision_id)

    def deliver(self, touch: Touch, status: str, reason: str | None = None, attempt: int = 1, **more: Any) -> None:
        delivery = Delivery(
            workspace=WORKSPACE,
            id=self._id(),
            touch_id=touch.touch_id,
            member_id=more.get("member_id", touch.member_id),
            channel=touch.channels[0],
            provider="smtp",
            status=status,
            at=iso(self.driver.now),
            attempt=attempt,
            run_id=touch.run_id,
            lane=touch.lane,
            reason=reason,
            settled=more.get("settled", False),
        )
        self.to_member(topics.DELIVERIES, delivery.member_id, delivery, delivery.id)

    def engage(self, touch: Touch, kind: str, actor: str = "human") -> None:
        value = Engagement(
            WORKSPACE,
            self._id(),
            kind,
            touch.member_id,
            iso(self.driver.now),
            actor,
            touch.touch_id,
            None,
            touch.run_id,
        )
        self.to_member(topics.ENGAGEMENT, touch.member_id, value, value.id)

    # looking

    def touches(self, lane: str | None = None) -> list[Touch]:
        """Touches written so far, without end markers."""
        return [t for t in (e.decode(Touch) for e in self._written(lane)) if t.kind == "touch"]

    def ends(self, lane: str) -> list[Emitted]:
        return [e for e in self._written(lane) if e.decode(Touch).kind == "end"]

    def _written(self, lane: str | None) -> list[Emitted]:
        names = [topics.touches(x) for x in ((lane,) if lane else topics.LANES)]
        return [e for e in self.driver.emitted() if e.topic in names]

    def parts(self, run_id: str) -> dict[int, RunPart]:
        """The newest published part of each partition."""
        return {e.partition: e.value for e in self.driver.emitted(topics.RUNS) if e.value.run_id == run_id}

    def shares(self, run_id: str) -> list[Any]:
        """The shares of a run as they are stored."""
        keys = (f"g:run:{WORKSPACE}:{run_id}", f"r:{WORKSPACE}:{run_id}")
        found = []
        for p in range(self.partitions):
            states = self.driver.states(p)
            found += [states[k] for k in keys if k in states][:1]
        return found

    def counts(self, run_id: str) -> dict[str, int]:
        """The seven counts of a run, without zeros; asserts that they sum to the touches."""
        total: dict[str, int] = {}
        for share in self.shares(run_id):
            assert sum(share.counts.values()) == share.touches
            for bucket, by in share.reasons.items():
                assert sum(by.values()) == share.counts.get(bucket, 0)
            for bucket, n in share.counts.items():
                total[bucket] = total.get(bucket, 0) + n
        total = shown(total)
        assert all(n >= 0 for n in total.values())
        return {bucket: n for bucket, n in total.items() if n}
