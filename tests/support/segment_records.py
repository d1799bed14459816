"""Records of a random member, as profiles, delivery and links write them."""

from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import ConsentEntry, Contact, Delivery, Engagement, MemberEvent, Suppression
from tests.support.segment_oracle import Person

WORKSPACE = "demo"


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def member_event(member_id: str, kind: str, id: str, at: int, **fields: Any) -> MemberEvent:
    return MemberEvent(WORKSPACE, member_id, kind, id, iso(at), **fields)


def track(
    member_id: str, id: str, at: int, name: str, properties: dict[str, Any] | None = None, **f: Any
) -> MemberEvent:
    return member_event(member_id, "track", id, at, name=name, properties=raw(properties or {}), **f)


def records(person: Person) -> Iterator[tuple[int, str, Any]]:
    """(time, topic, record) of each fact, ids by its place in the person."""
    who = person.member_id
    for i, (at, name, properties) in enumerate(person.events):
        yield at, topics.MEMBER_EVENTS, track(who, f"e{i}", at, name, properties)
    for i, (at, field, value) in enumerate(person.traits):
        yield at, topics.MEMBER_EVENTS, member_event(who, "member.updated", f"t{i}", at, traits={field: raw(value)})
    for i, (at, key, granted) in enumerate(person.consents):
        channel, topic = key.split(":")
        entry = ConsentEntry(channel, topic, "granted" if granted else "denied", iso(at), f"c{i}")
        yield at, topics.MEMBER_EVENTS, member_event(who, "consent.changed", f"c{i}", at, consent=entry)
    for i, (at, action, campaign, actor) in enumerate(person.messages):
        if action == "sent":
            record = Delivery(
                WORKSPACE, f"d{i}", f"touch{i}", who, "email", "smtp", "accepted", iso(at), campaign=campaign
            )
            yield at, topics.DELIVERIES, record
        else:
            yield (
                at,
                topics.ENGAGEMENT,
                Engagement(WORKSPACE, f"g{i}", action, who, iso(at), actor, campaign=campaign),
            )
    if person.suppressions:
        held = [Suppression(channel, "bounce", iso(at)) for at, channel in person.suppressions]
        yield person.suppressions[0][0], topics.CONTACTS, Contact(WORKSPACE, who, suppressions=held)
