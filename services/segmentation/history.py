"""What a record adds to a member's history, and which kinds of fact changed by it. Pure.

Everything is kept under its own time, so a late record falls where it belongs, and repeats change
nothing. Names of page, screen and group events are `page:Home`, `screen:Cart`, `group:g1`; without a
name just `page`.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from rondo_common.clock import from_iso
from rondo_common.records import ConsentEntry, Contact, Delivery, Engagement, MemberEvent
from services.segmentation import kept as parts
from services.segmentation import series
from services.segmentation.leaf import Facet
from services.segmentation.model import ERASED, KNOWN, NAMES_KEPT, TRAIT_CHANGES, Member, Series, Suppressed

ONCE = frozenset({"sent", "delivered", "bounced"})
"""Message actions that happen once a touch, whatever is reported again."""
SENT = {"accepted": "sent", "delivered": "delivered", "bounced": "bounced"}
"""Status of a delivery to the action rules know it by."""
ENGAGED = frozenset({"opened", "clicked"})
_HAPPENED = frozenset({"track", "page", "screen", "group"})

Change = tuple[Member, frozenset[Facet]]
"""The member afterwards and the kinds of fact that changed: none when it is as before."""

_NONE: frozenset[Facet] = frozenset()


def of_event(member: Member, event: MemberEvent, at: int | None = None) -> Change:
    """A member event's facts: an event that happened, traits, a consent, a user id. (Merging and erasing
    are the caller's.) `at`: its time, when it is at hand."""
    if at is None:
        at = from_iso(event.timestamp)
    facets: set[Facet] = set()
    changes: dict[str, Any] = {}
    if event.kind in _HAPPENED:
        name = event_name(event)
        if name in member.events or len(member.events) < NAMES_KEPT:
            found = member.events.get(name)
            added = series.add(found, at, series.mark_of(event.id), series.flat(event.properties))
            if added is not None:
                changes["events"] = parts.put(member.events, name, added)
                facets.add(("event", name))
    if event.traits:
        traits = member.traits
        times = event.trait_times or {}
        for field, raw in event.traits.items():
            value = series.compact(msgspec.json.decode(raw))
            since = from_iso(times[field]) if field in times else at
            history = put(traits.get(field, ()), since, value)
            if history is not None:
                traits = parts.put(traits, field, history[-TRAIT_CHANGES:])
                facets.add(("trait", field))
                changes["traits"] = traits
    if event.consent is not None:
        consents, changed = _with_consents(member.consents, (event.consent,))
        changes["consents"] = consents
        facets |= changed
    if event.user_id and event.user_id != member.user_id:
        changes["user_id"] = event.user_id
    if member.status != KNOWN:
        changes["status"] = KNOWN
    return (replace(member, **changes) if changes else member), frozenset(facets)


def event_name(event: MemberEvent) -> str:
    """The name under which rules find an event."""
    if event.kind == "track":
        return event.name or ""
    return f"{event.kind}:{event.name}" if event.name else event.kind


def of_contact(member: Member, contact: Contact) -> Change:
    """A contact's suppressions, which replace those known, and its consents."""
    suppressions = sorted(
        (Suppressed(s.channel, from_iso(s.at), s.address_id) for s in contact.suppressions),
        key=lambda s: (s.channel, s.at, s.address_id or ""),
    )
    consents, facets = _with_consents(member.consents, contact.consents)
    if suppressions != member.suppressions:
        facets |= {("suppression", s.channel) for s in (*suppressions, *member.suppressions)}
    user_id = contact.user_id or member.user_id
    if not facets and user_id == member.user_id:
        return member, _NONE
    return replace(member, suppressions=suppressions, consents=consents, user_id=user_id), frozenset(facets)


def of_delivery(member: Member, delivery: Delivery) -> Change:
    """A message that was sent, delivered or bounced."""
    return _with(member, sent(delivery))


def of_engagement(member: Member, engagement: Engagement) -> Change:
    """A message that was opened or clicked."""
    return _with(member, engaged(engagement))


class Happened(NamedTuple):
    """What happened to a message: an entry of one of a member's series. `id` tells it from others."""

    action: str
    at: int
    id: str
    values: dict[str, Any]

    def added_to(self, known: Series | None) -> Series | None:
        """The action's series with it; None when it is in there."""
        add = series.add_once if self.action in ONCE else series.add
        return add(known, self.at, series.mark_of(self.id), self.values)


def sent(delivery: Any) -> Happened | None:
    """Of a Delivery; None for what no rule asks about."""
    action = SENT.get(delivery.status)
    if action is None:
        return None
    values = {"campaign": delivery.campaign} if delivery.campaign else {}
    return Happened(action, from_iso(delivery.at), delivery.touch_id, values)


def engaged(engagement: Any) -> Happened | None:
    """Of an Engagement; None for what no rule asks about."""
    if engagement.kind not in ENGAGED:
        return None
    values = {"actor": engagement.actor}
    if engagement.campaign:
        values["campaign"] = engagement.campaign
    return Happened(engagement.kind, from_iso(engagement.at), engagement.id, values)


def _with(member: Member, happened: Happened | None) -> Change:
    added = happened.added_to(member.messages.get(happened.action)) if happened else None
    if happened is None or added is None:
        return member, _NONE
    messages = parts.put(member.messages, happened.action, added)
    return replace(member, messages=messages), frozenset({("message", happened.action)})


def put(history: Iterable[tuple[int, Any]], at: int, value: Any) -> list[tuple[int, Any]] | None:
    """A trait's history with one change more; what is said later about one instant replaces what was
    said before. None when nothing changes."""
    entries = list(history)
    i = bisect_right(entries, at, key=lambda entry: entry[0])
    if i and entries[i - 1][0] == at:
        if entries[i - 1][1] == value and type(entries[i - 1][1]) is type(value):
            return None
        entries[i - 1] = (at, value)
    else:
        entries.insert(i, (at, value))
    return entries


def _with_consents(
    known: dict[str, list[tuple[int, bool]]], entries: Iterable[ConsentEntry]
) -> tuple[dict[str, list[tuple[int, bool]]], set[Facet]]:
    """Consent histories with `entries`: one entry an instant, a denial wins it."""
    consents, facets = known, set()
    for entry in entries:
        key, at, granted = f"{entry.channel}:{entry.topic}", from_iso(entry.since), entry.state == "granted"
        by_time = dict(consents.get(key, ()))
        state = granted and by_time.get(at, True)
        if by_time.get(at) is state:
            continue
        by_time[at] = state
        consents = parts.put(consents, key, sorted(by_time.items()))
        facets.add(("consent", entry.channel))
    return consents, facets


def erased(member: Member) -> Member:
    """What stays of an erased member: that it is erased."""
    return Member(status=ERASED, clock=member.clock)


def portable(member: Member) -> Member:
    """The history that follows a merged-away member to the winner."""
    return Member(traits=member.traits, events=member.events, consents=member.consents, messages=member.messages)


def absorb(member: Member, origin: str, revision: int, moved: Member) -> Member | None:
    """The member with the history of another that was merged into it; None when that revision (or a
    later one) is in it already. At one instant the member's own trait stands."""
    if member.absorbed.get(origin, 0) >= revision:
        return None
    events = dict(member.events)
    for name, theirs in moved.events.items():
        events[name] = series.join(events.get(name), theirs)
    messages = dict(member.messages)
    for action, theirs in moved.messages.items():
        messages[action] = series.join(messages.get(action), theirs, action in ONCE)
    traits = dict(member.traits)
    for field, changes in moved.traits.items():
        traits[field] = sorted({**dict(changes), **dict(traits.get(field, ()))}.items())[-TRAIT_CHANGES:]
    consents = dict(member.consents)
    for key, entries in moved.consents.items():
        by_time = dict(consents.get(key, ()))
        for at, granted in entries:
            by_time[at] = granted and by_time.get(at, True)
        consents[key] = sorted(by_time.items())
    return replace(
        member,
        events=events,
        messages=messages,
        traits=traits,
        consents=consents,
        absorbed={**member.absorbed, origin: revision},
    )


def earliest(member: Member) -> int | None:
    """The time of the first fact known of a member."""
    firsts = [s.at[0] for s in (*member.events.values(), *member.messages.values()) if s.at]
    firsts += [h[0][0] for h in (*member.traits.values(), *member.consents.values()) if h]
    return min(firsts, default=None)
