"""The end state of a stack, read from outside: the log by kafka-python, profiles by gRPC, the inbox by HTTP.

Nothing here uses the clients or the code that made it. `look(api)` takes an End, `End.differences`
says where two are not the same.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from kafka import KafkaConsumer, TopicPartition

from rondo_protos.profiles.v1 import profiles_pb2, profiles_pb2_grpc
from tests.support.spine_api import Api

DELIVERED = {"accepted": "sent", "rejected": "failed", "unknown": "unknown"}
MEMBERSHIPS, DECISIONS = "rondo.memberships.v1", "rondo.decisions.v1"
DELIVERIES, CRM = "rondo.deliveries.v1", "rondo.crm.events.v1"
SHOWN = 5


def committed(kafka: str, *topics: str) -> Iterator[Any]:
    """Every committed record of the topics; those of one partition in order."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    try:
        parts = [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]
        assert len({tp.topic for tp in parts}) == len(topics), f"not all there: {topics}"
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while unread := [tp for tp in parts if consumer.position(tp) < ends[tp]]:
            consumer.resume(*unread)
            consumer.pause(*(tp for tp in parts if tp not in unread))
            for records in consumer.poll(timeout_ms=50, max_records=5_000).values():
                yield from records
    finally:
        consumer.close()


@dataclass
class End:
    """What became of everything. By member id: `profiles`, `contacts`, `memberships`; by touch id:
    `verdicts` (verdict, reason, until, channel) of the last decision, `outcomes` (sent, failed or unknown,
    reason), `captured` (how often)."""

    profiles: dict[str, Any] = field(default_factory=dict)
    contacts: dict[str, Any] = field(default_factory=dict)
    memberships: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    outcomes: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)
    captured: Counter[str] = field(default_factory=Counter)
    crm_ids: Counter[str] = field(default_factory=Counter)
    crm_sent: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)

    @property
    def let_through(self) -> set[str]:
        """Touches whose last decision says send."""
        return {t for t, v in self.verdicts.items() if v[0] == "send"}

    def with_outcome(self, outcome: str) -> set[str]:
        return {t for t, (o, _) in self.outcomes.items() if o == outcome}

    def summary(self) -> dict[str, Any]:
        return {
            "members": len(self.profiles),
            "memberships": sum(len(m) for m in self.memberships.values()),
            "verdicts": dict(Counter(f"{v[0]} {v[1] or ''}".strip() for v in self.verdicts.values())),
            "outcomes": dict(Counter(f"{o} {r or ''}".strip() for o, r in self.outcomes.values())),
            "captured": sum(self.captured.values()),
        }


def look(api: Api) -> End:
    """The end state now; the stack should be drained."""
    end = End()
    _profiles(api, end)
    latest: dict[str, Any] = {}
    for r in committed(api.stack.kafka, MEMBERSHIPS, DECISIONS, DELIVERIES, CRM):
        value = json.loads(r.value) if r.value else None
        match r.topic:
            case "rondo.memberships.v1":
                latest[r.key.decode()] = value
            case "rondo.decisions.v1":
                d = value
                end.verdicts[d["touch_id"]] = (
                    d["verdict"],
                    d.get("reason"),
                    d.get("until"),
                    d["channel"],
                    d["member_id"],
                )
            case "rondo.deliveries.v1" if value["status"] in DELIVERED:
                end.outcomes[value["touch_id"]] = (DELIVERED[value["status"]], value.get("reason"))
                end.channels[value["touch_id"]] = value["channel"]
            case "rondo.crm.events.v1":
                headers = dict(r.headers)
                end.crm_ids[headers["ce_id"].decode()] += 1
                if headers["ce_type"] == b"message.sent":
                    end.crm_sent[value["data"]["touch_id"]] += 1
    end.memberships = {v["member_id"]: v["segments"] for v in latest.values() if v and v.get("segments")}
    for m in api.inbox():
        end.captured[m["touch_id"]] += 1
    return end


def _profiles(api: Api, end: End) -> None:
    with grpc.insecure_channel(api.stack.grpc("profiles")) as channel:
        stub = profiles_pb2_grpc.ProfilesServiceStub(channel)
        cursor = ""
        while True:
            request = profiles_pb2.ListMembersRequest(workspace="demo", cursor=cursor, limit=1000)
            page = stub.ListMembers(request, timeout=30)
            for m in page.members:
                # not whom it absorbed: a link that is known before an anonymous sender's first event makes
                # that event the member's own, and there is nothing to absorb
                end.profiles[m.member_id] = json.loads(m.profile_json)
                end.contacts[m.member_id] = json.loads(m.contact_json)
            cursor = page.next_cursor
            if not cursor:
                return


def differences(what: str, wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where two mappings differ, in words, a few of each kind."""
    out = [f"{what} {k}: missing, should be {wanted[k]}" for k in sorted(wanted.keys() - found.keys())]
    out += [f"{what} {k}: should not be there, is {found[k]}" for k in sorted(found.keys() - wanted.keys())]
    for k in sorted(wanted.keys() & found.keys()):
        if wanted[k] != found[k]:
            out.append(f"{what} {k}: {_apart(wanted[k], found[k])}")
    more = [f"... and {len(out) - SHOWN} more"] if len(out) > SHOWN else []
    return out[:SHOWN] + more


def _apart(wanted: Any, found: Any) -> str:
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        return "; ".join(f"{k} should be {wanted.get(k)!r}, is {found.get(k)!r}" for k in keys)
    return f"should be {wanted!r}, is {found!r}"
