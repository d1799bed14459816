"""Facts about a member: what happened to it, how it may be reached, its messages; and its timers."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from rondo_common import records as rec
from rondo_common.clock import from_iso
from rondo_common.outcomes import Drop, Outcome, Save
from rondo_common.stage import Input, States, Timer
from services.segmentation import history
from services.segmentation.handlers import merges
from services.segmentation.kept import NOBODY, Kept, messages_of, opened
from services.segmentation.membership import Settling, Why
from services.segmentation.model import ERASED, KNOWN, Member, state_key
from services.segmentation.ruleset import RuleSet


class Sent(msgspec.Struct, frozen=True):
    """Of a Delivery what histories keep."""

    workspace: str
    member_id: str
    id: str
    touch_id: str
    status: str
    at: str
    campaign: str = ""


class Engaged(msgspec.Struct, frozen=True):
    """Of an Engagement what histories keep."""

    workspace: str
    member_id: str
    id: str
    kind: str
    at: str
    actor: str = "human"
    campaign: str | None = None


def on_event(item: Input, event: rec.MemberEvent, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """A member event. The first one of a member makes it known: all segments are evaluated."""
    before = opened(states.get(state_key(event.workspace, event.member_id)))
    if event.kind == "member.erased":
        return merges.gone(before, history.erased(before), event, item, states, now, rules)
    if before.status == ERASED:
        before = Member(clock=before.clock)  # heard of again: a new member under the old id
    at = from_iso(event.timestamp)
    member, facets = history.of_event(before, event, at)
    if event.kind == "member.merged" and event.merged_into and event.merged_into != member.merged_into:
        after = replace(member, merged_into=event.merged_into)
        return merges.gone(member, after, event, item, states, now, rules)
    if member is before:
        return (Drop("nothing_new"),)
    if member.merged_into is not None:
        return merges.pass_on(event.workspace, event.member_id, member, bool(facets), item)
    segments = rules.all if before.status != KNOWN else rules.affected(facets)
    why = Why(item.cause, event.id, now, at, event.historical)
    return settle(event.workspace, event.member_id, member, rules, segments, why, states)


def on_contact(item: Input, contact: rec.Contact, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """How a member may be reached. It makes no member known."""
    before = opened(states.get(state_key(contact.workspace, contact.member_id)))
    if before.status == ERASED:
        return (Drop("erased"),)
    member, facets = history.of_contact(before, contact)
    if contact.merged_into and contact.merged_into != member.merged_into:
        after = replace(member, merged_into=contact.merged_into)
        return merges.gone(member, after, contact, item, states, now, rules)
    if member is before:
        return (Drop("nothing_new"),)
    if member.merged_into is not None:
        return merges.pass_on(contact.workspace, contact.member_id, member, bool(facets), item)
    segments = rules.affected(facets) if member.counts else ()
    why = Why(item.cause, "contact", now)
    return settle(contact.workspace, contact.member_id, member, rules, segments, why, states)


def on_sent(item: Input, sent: Sent, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """An outcome of a send."""
    return _on_message(item, sent, history.sent(sent), states, now, rules)


def on_engaged(item: Input, engaged: Engaged, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """An open or a click."""
    return _on_message(item, engaged, history.engaged(engaged), states, now, rules)


def _on_message(
    item: Input, fact: Sent | Engaged, happened: history.Happened | None, states: States, now: int, rules: RuleSet
) -> Iterable[Outcome]:
    """Only the one series is opened while no rule reads it: a broadcast brings one such record a mail."""
    key = state_key(fact.workspace, fact.member_id)
    kept: Kept = states.get(key) or NOBODY
    if kept.status == ERASED:
        return (Drop("erased"),)
    if happened is None:
        return (Drop("nothing_new"),)
    messages = messages_of(kept)
    added = happened.added_to(messages.get(happened.action))
    if added is None:
        return (Drop("nothing_new"),)
    kept = replace(kept, messages=messages.put(happened.action, added).kept())
    if kept.merged_into is not None:
        return merges.pass_on(fact.workspace, fact.member_id, opened(kept), True, item)
    segments = rules.reading("message", happened.action) if kept.counts else ()
    if not segments:
        return (Save(key, replace(kept, clock=max(now, kept.clock))),)
    why = Why(item.cause, fact.id, now, happened.at)
    return settle(fact.workspace, fact.member_id, opened(kept), rules, segments, why, states)


def on_timer(item: Timer, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """The answer of one segment for one member may change at exactly this ms."""
    _, workspace, member_id = item.owner.split(":", 2)
    kept: Kept | None = states.get(item.owner)
    if kept is None:
        return (Drop("no_member"),)
    settling = Settling(workspace, member_id, opened(kept), Why(item.cause, "timer", now))
    settling.fired(item.name)
    settling.evaluate(rules, (item.name,))
    return settling.outcomes(states)


def settle(
    workspace: str,
    member_id: str,
    member: Member,
    rules: RuleSet,
    segments: Sequence[str],
    why: Why,
    states: States,
) -> Iterable[Outcome]:
    """Evaluate `segments` for a member and write what follows."""
    settling = Settling(workspace, member_id, member, why)
    if segments:
        settling.evaluate(rules, segments)
    return settling.outcomes(states)
