"""The catalogue: every topic, its key, value, retention, writers and readers, in one place.

The command line creates topics from it, tests hold every producer and consumer against it, and
docs/asyncapi.yaml is generated from it.
"""

from dataclasses import dataclass

from rondo_common import records as r
from rondo_common import topics as names
from rondo_common.partition import PARTITIONS

DAY = 86_400_000


@dataclass(frozen=True)
class Topic:
    """One topic. `cleanup` is delete or compact; `retention_days` None keeps for ever. `factor`
    multiplies the member partition count (sends-state holds one range per channel); `partitions`
    fixes a count of its own. `transactional`: written by the stream loop inside transactions."""

    name: str
    key: str
    value: type | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    about: str
    cleanup: str = "delete"
    retention_days: int | None = 7
    transactional: bool = True
    factor: int = 1
    partitions: int | None = None
    dead_letters: bool = True
    max_bytes: int | None = None

    def count(self, member_partitions: int = PARTITIONS) -> int:
        """How many partitions it is created with."""
        return self.partitions or member_partitions * self.factor

    def config(self, keep_all: bool = False, replication: int = 1) -> dict[str, str]:
        """Broker configuration. With three replicas or more a write needs two of them (docs/durability.md).
        `keep_all` (test clock): timestamps lie anywhere, so nothing may be deleted by age. Timestamps are Rondo's
        clock, so the broker's limit on the future is lifted."""
        retention = -1 if keep_all or self.retention_days is None else self.retention_days * DAY
        config = {
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
        }
        if replication >= 3:
            config["min.insync.replicas"] = "2"
        if self.cleanup == "delete":
            config["retention.ms"] = str(retention)
        else:
            config["delete.retention.ms"] = str(DAY)
            config["min.cleanable.dirty.ratio"] = "0.3"
            config["segment.bytes"] = str(64 * 1024 * 1024)
        if self.max_bytes:
            config["max.message.bytes"] = str(self.max_bytes)
        return config


LONG = None
_BIG = 8 * 1024 * 1024


def _catalogue() -> list[Topic]:
    member = "workspace:member"
    topics = [
        Topic(
            names.EVENTS,
            "workspace:sender",
            r.Event,
            ("ingestion", "links"),
            ("profiles",),
            "every accepted event",
            retention_days=LONG,
            transactional=False,
        ),
        Topic(
            names.REJECTED,
            "workspace:sender",
            r.Rejected,
            ("ingestion",),
            ("operators",),
            "events the door refused, with code and pointer",
            retention_days=30,
            transactional=False,
            dead_letters=False,
        ),
        Topic(
            names.ROUTED,
            member,
            r.Routed,
            ("profiles",),
            ("profiles",),
            "events and merges on their way to a member's partition",
        ),
        Topic(
            names.LINKS,
            "workspace:sender",
            r.Link,
            ("profiles",),
            ("profiles",),
            "links and claims on their way to an identifier's partition",
        ),
        Topic(
            names.IDENTITIES,
            "state key",
            None,
            ("profiles",),
            ("profiles",),
            "state of the profiles stage",
            cleanup="compact",
            dead_letters=False,
            max_bytes=_BIG,
        ),
        Topic(
            names.MEMBER_EVENTS,
            member,
            r.MemberEvent,
            ("profiles",),
            ("segmentation", "campaigns", "insights", "egress"),
            "what happened to each member, in order",
            retention_days=LONG,
        ),
        Topic(
            names.PROFILES,
            member,
            r.Profile,
            ("profiles",),
            ("delivery-email", "delivery-sms", "delivery-messaging", "insights"),
            "the member's profile",
            cleanup="compact",
        ),
        Topic(
            names.CONTACTS,
            member,
            r.Contact,
            ("profiles",),
            (
                "segmentation",
                "rhythm",
                "delivery-email",
                "delivery-sms",
                "delivery-messaging",
                "insights",
                "egress",
            ),
            "endpoints, zone, consent, suppression; written only when one changes",
            cleanup="compact",
        ),
        Topic(
            names.CONSENTS,
            member,
            r.ConsentRecord,
            ("profiles",),
            ("insights",),
            "the consent ledger",
            retention_days=LONG,
        ),
        Topic(
            names.SEGMENTATION_STATE,
            "state key",
            None,
            ("segmentation",),
            ("segmentation",),
            "state of the segmentation stage",
            cleanup="compact",
            dead_letters=False,
            max_bytes=_BIG,
        ),
        Topic(
            names.MEMBERSHIPS,
            member,
            r.Memberships,
            ("segmentation",),
            ("insights",),
            "the segments a member is in",
            cleanup="compact",
        ),
        Topic(
            names.MEMBERSHIP_CHANGES,
            member,
            r.MembershipChange,
            ("segmentation",),
            ("campaigns", "insights", "egress"),
            "entered and left",
            retention_days=LONG,
        ),
        Topic(
            names.DEFINITIONS,
            "workspace:kind:id:version",
            r.Definition,
            ("gateway", "segmentation", "campaigns", "rhythm"),
            ("all",),
            "every version of every definition",
            cleanup="compact",
            transactional=False,
            partitions=1,
            dead_letters=False,
        ),
        Topic(
            names.COMMANDS,
            "workspace:member, or one copy per partition",
            r.Command,
            ("gateway", "segmentation", "campaigns", "rhythm", "community"),
            (
                "profiles",
                "segmentation",
                "campaigns",
                "rhythm",
                "delivery-email",
                "delivery-sms",
                "delivery-messaging",
                "egress",
            ),
            "what people ask for",
            retention_days=LONG,
            transactional=False,
        ),
        Topic(
            names.RUNS,
            "workspace:run:partition",
            r.RunPart,
            ("campaigns",),
            ("insights",),
            "each partition's share of a run's counts",
            cleanup="compact",
        ),
        Topic(
            names.JOURNEYS,
            "state key",
            None,
            ("campaigns",),
            ("campaigns",),
            "state of the campaigns stage",
            cleanup="compact",
            dead_letters=False,
            max_bytes=_BIG,
        ),
        Topic(
            names.RHYTHM,
            "state key",
            None,
            ("rhythm",),
            ("rhythm",),
            "state of the gate: agenda, budgets, holds",
            cleanup="compact",
            dead_letters=False,
            max_bytes=_BIG,
        ),
        Topic(
            names.DECISIONS,
            member,
            r.Decision,
            ("rhythm",),
            ("campaigns", "insights", "egress"),
            "every verdict with its reasons",
            retention_days=LONG,
        ),
        Topic(
            names.SENDS_STATE,
            "o:send id",
            r.SendState,
            ("delivery-email", "delivery-sms", "delivery-messaging"),
            ("delivery-email", "delivery-sms", "delivery-messaging"),
            "state of the delivery stages: sends written ahead of their call",
            cleanup="compact",
            factor=len(names.CHANNELS),
            dead_letters=False,
            max_bytes=_BIG,
        ),
        Topic(
            names.DELIVERIES,
            member,
            r.Delivery,
            ("delivery-email", "delivery-sms", "delivery-messaging", "ingestion"),
            (
                "profiles",
                "segmentation",
                "rhythm",
                "campaigns",
                "delivery-email",
                "delivery-sms",
                "delivery-messaging",
                "insights",
                "egress",
            ),
            "what became of each send",
            retention_days=LONG,
        ),
        Topic(
            names.ENGAGEMENT,
            member,
            r.Engagement,
            ("links", "ingestion"),
            ("profiles", "segmentation", "campaigns", "insights", "egress"),
            "opens, clicks, unsubscribes",
            retention_days=LONG,
            transactional=False,
        ),
        Topic(
            names.INBOUND,
            "workspace:member or address id",
            r.Inbound,
            ("ingestion",),
            ("profiles", "community"),
            "messages from members",
            retention_days=LONG,
            transactional=False,
        ),
        Topic(
            names.COMMUNITY,
            "workspace:member",
            r.CommunityEvent,
            ("community",),
            ("rhythm", "insights", "egress"),
            "conversations opened, continued, closed",
            retention_days=LONG,
            transactional=False,
        ),
        Topic(
            names.COMMUNITY_WORK,
            "workspace:member",
            None,
            ("community",),
            ("community",),
            "inbound messages and operators' acts on their way to the conversation's partition",
            transactional=False,
            dead_letters=True,
        ),
        Topic(
            names.MOVES,
            member,
            r.Move,
            ("segmentation", "campaigns", "rhythm"),
            ("segmentation", "campaigns", "rhythm"),
            "state that follows a merged member",
        ),
        Topic(
            names.EGRESS_STATE,
            "state key",
            None,
            ("egress",),
            ("egress",),
            "state of the egress stage: webhook queue",
            cleanup="compact",
            dead_letters=False,
        ),
        Topic(
            names.CAPTURED,
            "touch id",
            r.Captured,
            ("capture",),
            ("operators",),
            "messages the capture process took",
            transactional=False,
            dead_letters=False,
        ),
        Topic(
            names.CRM_EVENTS,
            member,
            r.CrmEvent,
            ("egress",),
            ("CRMs",),
            "the public contract",
            retention_days=LONG,
            dead_letters=False,
        ),
        Topic(
            names.AUDIT,
            "actor",
            r.AuditEntry,
            ("gateway",),
            ("insights",),
            "who did what",
            retention_days=LONG,
            transactional=False,
            dead_letters=False,
        ),
    ]
    for lane in names.LANES:
        topics.append(
            Topic(names.touches(lane), member, r.Touch, ("campaigns",), ("rhythm",), f"intended messages, {lane}")
        )
        topics += [
            Topic(
                names.sends(channel, lane),
                member,
                r.Send,
                ("rhythm",),
                (f"delivery-{channel}",),
                f"let-through messages, {channel}, {lane}",
            )
            for channel in names.CHANNELS
        ]
    dead = [
        Topic(
            names.dlq(t.name),
            t.key,
            None,
            t.readers,
            ("operators",),
            f"what could not be processed from {t.name}",
            retention_days=30,
            dead_letters=False,
        )
        for t in topics
        if t.dead_letters
    ]
    return topics + dead


TOPICS: dict[str, Topic] = {t.name: t for t in _catalogue()}
