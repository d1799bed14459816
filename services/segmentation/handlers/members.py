"""Facts about a member: what happened to it, how it may be reached, its messages; and its timers."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from rondo_common import records as rec
from rondo_common.clock import from_iso
from rondo_common.outcomes import Drop, Outcome
from rondo_common.stage import Input, States, Timer
from services.segmentation import history
from services.segmentation.handlers import merges
from services.segmentation.membership import Settling, Why
from services.segmentation.model import ERASED, KNOWN, Member, state_key
from services.segmentation.ruleset import RuleSet

Fact = rec.Contact | rec.Delivery | rec.Engagement


def on_event(item: Input, event: rec.MemberEvent, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """A member event. The first one of a member makes it known: all segments are evaluated."""
    before: Member = states.get(state_key(event.workspace, event.member_id)) or Member()
    if event.kind == "member.erased":
        return merges.gone(before, history.erased(before), event, item, states, now, rules)
    if before.status == ERASED:
        before = Member(clock=before.clock)  # heard of again: a new member under the old id
    member, facets = history.of_event(before, event)
    if event.kind == "member.merged" and event.merged_into and event.merged_into != member.merged_into:
        after = replace(member, merged_into=event.merged_into)
        return merges.gone(member, after, event, item, states, now, rules)
    if member is before:
        return (Drop("nothing_new"),)
    if member.merged_into is not None:
        return merges.pass_on(event.workspace, event.member_id, member, bool(facets), item)
    segments = rules.all if before.status != KNOWN else rules.affected(facets)
    why = Why(item.cause, event.id, now, from_iso(event.timestamp), event.historical)
    return settle(event.workspace, event.member_id, member, rules, segments, why, states)


def on_fact(item: Input, fact: Fact, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """A contact, an outcome of a send, an open or a click. They make no member known."""
    before: Member = states.get(state_key(fact.workspace, fact.member_id)) or Member()
    if before.status == ERASED:
        return (Drop("erased"),)
    cause, fact_at = "contact", None
    match fact:
        case rec.Contact():
            member, facets = history.of_contact(before, fact)
        case rec.Delivery():
            cause, fact_at = fact.id, from_iso(fact.at)
            member, facets = history.of_delivery(before, fact)
        case rec.Engagement():
            cause, fact_at = fact.id, from_iso(fact.at)
            member, facets = history.of_engagement(before, fact)
    if isinstance(fact, rec.Contact) and fact.merged_into and fact.merged_into != member.merged_into:
        after = replace(member, merged_into=fact.merged_into)
        return merges.gone(member, after, fact, item, states, now, rules)
    if member is before:
        return (Drop("nothing_new"),)
    if member.merged_into is not None:
        return merges.pass_on(fact.workspace, fact.member_id, member, bool(facets), item)
    segments = rules.affected(facets) if member.counts else ()
    why = Why(item.cause, cause, now, fact_at)
    return settle(fact.workspace, fact.member_id, member, rules, segments, why, states)


def on_timer(item: Timer, states: States, now: int, rules: RuleSet) -> Iterable[Outcome]:
    """The answer of one segment for one member may change at exactly this ms."""
    _, workspace, member_id = item.owner.split(":", 2)
    member = states.get(item.owner)
    if member is None:
        return (Drop("no_member"),)
    settling = Settling(workspace, member_id, member, Why(item.cause, "timer", now))
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
