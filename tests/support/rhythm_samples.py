"""Touches, contacts and policies for tests of the rhythm gate."""

from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import (
    Command,
    CommunityEvent,
    ConsentEntry,
    Contact,
    Decision,
    Definition,
    Delivery,
    Send,
    Touch,
)
from services.rhythm.model import Consent, Member, PolicySet, Snapshot, Spent
from services.rhythm.policies import Policies, compile_all, validate
from services.rhythm.streams import RhythmStage
from tests.support.stage_driver import StageDriver

EVERY_DAY = ["mo", "tu", "we", "th", "fr", "sa", "su"]
HOUR = 3_600_000
DAY = 24 * HOUR


def touch(id: str = "t1", member: str = "m1", **changes: Any) -> Touch:
    """A marketing touch by e-mail then sms; any field may be given."""
    fields: dict[str, Any] = {
        "workspace": "demo",
        "touch_id": id,
        "run_id": "r1",
        "campaign": "spring",
        "version": 2,
        "step": "main",
        "member_id": member,
        "occurrence": id,
        "class_": "marketing",
        "topic": "offers",
        "lane": "bulk",
        "channels": ["email", "sms"],
        "decide_at": "1970-01-01T00:00:00Z",
    }
    return Touch(**{**fields, **changes})


def snapshot(**changes: Any) -> Snapshot:
    """A member with all addresses who allows offers everywhere."""
    consents = tuple(Consent(c, "offers", "granted", f"g-{c}") for c in ("email", "sms", "messaging"))
    fields: dict[str, Any] = {"reachable": ("email", "sms", "messaging"), "zone": "UTC", "consents": consents}
    return Snapshot(**{**fields, **changes})


def member(*ledger: Spent, **changes: Any) -> Member:
    return Member(contact=snapshot(**changes), ledger=ledger)


def contact(id: str = "m1", **changes: Any) -> Contact:
    """The same member as a record."""
    fields: dict[str, Any] = {
        "workspace": "demo",
        "member_id": id,
        "email": "ann@example.com",
        "phone": "+33612345678",
        "timezone": "UTC",
        "consents": [ConsentEntry(c, "offers", "granted", "2026-01-01T00:00:00Z", f"g-{c}") for c in ("email", "sms")],
    }
    return Contact(**{**fields, **changes})


def definition(kind: str, id: str = "p1", version: int = 1, deleted: bool = False, **body: Any) -> Definition:
    kept = {} if deleted else validate(kind, id, msgspec.json.encode(body))
    return Definition(
        "demo", kind, id, version, msgspec.Raw(msgspec.json.encode(kept)), "2026-01-01T00:00:00Z", "", deleted
    )


def policies(*definitions: Definition) -> Policies:
    return compile_all(PolicySet({f"{d.kind}:{d.id}": d for d in definitions}))


def night(start: str = "21:00", end: str = "08:00", days: list[str] | None = None, **more: Any) -> Definition:
    return definition("quiet_hours", "night", windows=[{"days": days or EVERY_DAY, "from": start, "to": end}], **more)


def budget(id: str = "weekly", limit: float = 3, per: str = "P7D", **more: Any) -> Definition:
    return definition("budget", id, limit=limit, per=per, **more)


class Gate:
    """A StageDriver with the rhythm stage on it, and words for what goes in and out."""

    def __init__(self, now: int, *policies: Definition, known: bool = True):
        self.driver = StageDriver(RhythmStage("secret"), clock=now)
        self._commands = 0
        for d in policies:
            self.command("definition.activated", definition=d)
        if known:
            self.contact(contact())

    @property
    def now(self) -> int:
        return self.driver.now

    def command(self, kind: str, **fields: Any) -> None:
        """A copy to every partition."""
        self._commands += 1
        record = Command(kind=kind, workspace="demo", id=f"c{self._commands}", at=iso(self.now), **fields)
        for p in range(self.driver.partitions):
            self.driver.feed(topics.COMMANDS, "demo:x", record, partition=p)

    def contact(self, record: Contact) -> None:
        self.driver.feed(topics.CONTACTS, f"demo:{record.member_id}", record)

    def touch(self, record: Touch) -> None:
        self.driver.feed(topics.touches(record.lane), f"demo:{record.member_id}", record)

    def community(self, kind: str, sequence: int, conversation: str = "c1", id: str = "m1") -> None:
        event = CommunityEvent(
            "demo", f"e{sequence}", f"conversation.{kind}", conversation, sequence, id, "sms", iso(self.now)
        )
        self.driver.feed(topics.COMMUNITY, f"demo:{id}", event)

    def delivery(
        self, status: str, touch_id: str = "t1", attempt: int = 1, id: str = "m1", at: int | None = None
    ) -> None:
        d = Delivery(
            "demo", f"d-{touch_id}-{status}-{attempt}", touch_id, id, "email", "smtp", status,
            iso(self.now if at is None else at), attempt,
        )  # fmt: skip
        self.driver.feed(topics.DELIVERIES, f"demo:{id}", d)

    def forward_moves(self) -> int:
        """Deliver the moves that were emitted; how many there were."""
        moves = self.driver.take(topics.MOVES)
        self.driver.feed_emitted(moves)
        return len(moves)

    def decisions(self) -> list[Decision]:
        """Decisions since the last call."""
        return [e.decode(Decision) for e in self.driver.take(topics.DECISIONS)]

    def verdicts(self) -> list[tuple[str, str, str | None]]:
        """(touch id, verdict, reason) of the decisions since the last call."""
        return [(d.touch_id, d.verdict, d.reason) for d in self.decisions()]

    def sends(self) -> list[Any]:
        """Sends since the last call."""
        found = [e for e in self.driver.emitted() if e.topic.startswith("rondo.sends.")]
        for topic in {e.topic for e in found}:
            self.driver.take(topic)
        return [e.decode(Send) for e in found]

    def member(self, id: str = "m1") -> Member:
        return self.driver.state(f"m:demo:{id}") or Member()

    def marks(self) -> list[str]:
        return sorted(k for k in self.driver.states() if k.startswith("w:"))
