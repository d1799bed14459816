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
SHOWN = 5


def committed(kafka: str, topic: str, timeout_ms: int = 200) -> Iterator[Any]:
    """Every committed record of a topic, partition by partition in order."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        assert parts, f"there is no topic {topic}"
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(tp) < ends[tp] for tp in parts):
            for records in consumer.poll(timeout_ms=timeout_ms).values():
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
    kafka = api.stack.kafka
    latest: dict[str, Any] = {}
    for r in committed(kafka, "rondo.memberships.v1"):
        latest[r.key.decode()] = json.loads(r.value) if r.value else None
    end.memberships = {v["member_id"]: v["segments"] for v in latest.values() if v and v.get("segments")}
    for r in committed(kafka, "rondo.decisions.v1"):
        d = json.loads(r.value)
        end.verdicts[d["touch_id"]] = (d["verdict"], d.get("reason"), d.get("until"), d["channel"], d["member_id"])
    for r in committed(kafka, "rondo.deliveries.v1"):
        d = json.loads(r.value)
        if d["status"] in DELIVERED:
            end.outcomes[d["touch_id"]] = (DELIVERED[d["status"]], d.get("reason"))
            end.channels[d["touch_id"]] = d["channel"]
    for r in committed(kafka, "rondo.crm.events.v1"):
        headers = dict(r.headers)
        end.crm_ids[headers["ce_id"].decode()] += 1
        if headers["ce_type"] == b"message.sent":
            end.crm_sent[json.loads(r.value)["data"]["touch_id"]] += 1
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
                end.profiles[m.member_id] = {**json.loads(m.profile_json), "merged_from": sorted(m.merged_from)}
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
