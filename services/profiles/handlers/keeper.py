"""The keeper applies an event to a member."""

from copy import copy
from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import from_iso, iso
from rondo_common.ids import derived, member_key
from rondo_common.outcomes import Drop, Emit, Outcome, Save
from rondo_common.records import ConsentRecord, Event, Link
from services.profiles import activity, consent
from services.profiles.fragments import later, newer, same, standing, standing_consent, user_id_of
from services.profiles.handlers.case import Case, forward
from services.profiles.handlers.facts import told
from services.profiles.model import (
    CONSENT_EVENT,
    CONTACT_TRAITS,
    MAX_TRAIT_BYTES,
    MAX_TRAITS,
    Fragment,
    Member,
    Trait,
    member_state,
)

HAPPENED = frozenset(("track", "page", "screen", "group"))
"""Calls that are member events themselves."""


class Said(msgspec.Struct):
    """What the traits of one event came to, beside what stood before: changed ones, ones whose later
    value was known already with the values that stand, and whether a claim may move."""

    changed: dict[str, msgspec.Raw]
    late: dict[str, msgspec.Raw]
    stands: dict[str, Trait]
    refreshed: bool = False


def apply_event(case: Case, member: Member | None, event: Event) -> list[Outcome]:
    """The outcomes of one event for its member. `member` is the stored state, None for a new one."""
    if member is not None and member.merged_into is not None:
        link = Link(
            "link",
            case.workspace,
            event.sender,
            "",
            member.merged_into,
            event.timestamp,
            minted=member.merged_minted,
        )
        sender = member_key(case.workspace, event.sender)
        return [
            *forward(case, member, "event", event=event),
            Emit(topics.LINKS, sender, link, "profiles.link"),
        ]
    at = from_iso(event.timestamp)
    drops: list[str] = []
    before = member
    if member is None:
        member = Member(case.minted, Fragment())
    own, facts = activity.noted(member.own, event, at, case.now, drops)
    after = copy(member)
    after.own = own
    try:
        traits = activity.traits_of(event)
    except ValueError:
        traits = {}
        drops.append("invalid_traits")
    said = _say(member, own, traits, at, drops) if traits else None
    statement = None
    if event.event == CONSENT_EVENT and event.type == "track":
        statement = consent.read(event.properties, at, event.message_id)
        if statement is None:
            drops.append("invalid_consent")
    more: dict[str, Any] = {"event_id": event.message_id, "user_id": user_id_of(after), "historical": event.historical}
    out: list[Outcome] = []
    if before is None:
        out.append(case.happened("member.created", event.timestamp, **more))
    if said is not None:
        facts = facts or said.refreshed or bool(said.changed)
        if said.changed:
            out.append(case.happened("member.updated", event.timestamp, traits=said.changed, **more))
        if said.late:
            out.append(case.happened("traits.late", event.timestamp, traits=said.late, **more))
            out.append(_standing(case, event.timestamp, said.stands, more))
    if event.type in HAPPENED:
        name, properties = (event.group_id, event.traits) if event.type == "group" else (event.event, event.properties)
        out.append(case.happened(event.type, event.timestamp, name=name, properties=properties, **more))
    if statement is not None:
        out.extend(state(case, after, statement, event.timestamp, more))
        facts = True
    if facts or before is None:
        out.extend(told(case, before, after))
    out.append(Save(member_state(case.workspace, case.member_id), after))
    out.extend(Drop(reason) for reason in drops)
    return out


def _say(member: Member, own: Fragment, traits: dict[str, msgspec.Raw], at: int, drops: list[str]) -> Said:
    """Put what was said into `own` (a copy that is ours) and tell what came of it."""
    said = Said({}, {}, {})
    values = dict(own.traits)
    for name, value in traits.items():
        if len(name) + len(bytes(value)) > MAX_TRAIT_BYTES:
            drops.append("trait_too_large")
            continue
        mine = values.get(name)
        if mine is None and len(values) >= MAX_TRAITS and name not in CONTACT_TRAITS:
            drops.append("too_many_traits")
            continue
        new, stood = Trait(at, value), standing(member, name)
        if later(new, mine):
            values[name] = new
        if later(new, stood):
            if not same(new, stood):
                said.changed[name] = value
            elif name in CONTACT_TRAITS:
                said.refreshed = True
        elif stood is not None and at < stood.at:
            said.late[name] = value
            said.stands[name] = stood
    own.traits = values
    return said


def _standing(case: Case, timestamp: str, stands: dict[str, Trait], more: dict[str, Any]) -> Emit:
    """The values that stand, again, so that a reader who orders by time ends with them."""
    return case.happened(
        "traits.late",
        timestamp,
        "stands",
        traits={name: t.value for name, t in stands.items()},
        trait_times={name: iso(t.at) for name, t in stands.items()},
        **more,
    )


def state(
    case: Case, after: Member, statement: consent.Statement, timestamp: str, more: dict[str, Any]
) -> list[Outcome]:
    """Write a statement of consent into `after.own` (a copy that is ours), the ledger and the member's
    events."""
    key, said = statement.key, statement.consent
    stood = standing_consent(after, key)
    if newer(said, after.own.consents.get(key)):
        after.own.consents = {**after.own.consents, key: said}
    entry = consent.entry(key, said)
    id = derived(case.cause, f"{case.member_id}:consent:{key}")
    record = ConsentRecord(
        case.workspace,
        case.member_id,
        id,
        statement.channel,
        statement.topic,
        said.state,
        entry.since,
        iso(case.now),
        said.event_id,
        said.source,
        said.text_version,
        statement.ip,
    )
    kind = "consent.changed" if newer(said, stood) else "consent.late"
    return [
        Emit(topics.CONSENTS, case.key, record, "consent.recorded", id, case.member_id),
        case.happened(kind, timestamp, key, consent=entry, **more),
    ]
