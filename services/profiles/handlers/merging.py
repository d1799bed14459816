"""Two members turn out to be one (STREAMS 17).

A merge message goes to the member that loses by the total order (`order.beats`). It points to the
winner and sends its fragments there; the winner folds them in. A member that has lost before and
hears of another winner lets the two winners settle it: the message goes to the loser of both. Each
such message names a loser that is higher in the order than the last, so they end, and all members
that were ever linked end under the one highest of them. A winner that got a fragment by a detour
tells its origin, so pointers end at the final winner, one hop away.
"""

from copy import copy
from typing import Any

import msgspec

from rondo_common.clock import iso
from rondo_common.outcomes import Drop, Emit, Outcome, Save
from rondo_common.records import Link, Routed
from services.profiles import consent
from services.profiles.fragments import fold, newer, removed, same, user_id_of
from services.profiles.handlers.case import Case, forward, routed
from services.profiles.handlers.facts import told
from services.profiles.model import Fragment, Member, Sender, member_state, sender_key
from services.profiles.order import beats

_fragment = msgspec.json.Decoder(Fragment).decode


def merge_message(case: Case, one: str, one_minted: str, two: str, two_minted: str) -> Emit:
    """Tell the loser of two members that the other one wins."""
    if beats(two, two_minted, one, one_minted):
        one, one_minted, two, two_minted = two, two_minted, one, one_minted
    return routed(case, "merge", two, two_minted, winner=one, winner_minted=one_minted)


def link(case: Case, message: Link, sender: Sender | None, member: Member | None) -> list[Outcome]:
    """At the sender's partition: the sender now belongs to `message.member_id`. `member` is the one
    minted from the sender's own id, if any."""
    key = sender_key(case.workspace, message.identifier_id)
    if sender is not None:
        now, minted = sender.member, sender.minted
    elif member is not None:
        now, minted = message.identifier_id, member.minted
    else:
        return [Save(key, Sender(message.member_id, message.minted))]
    if now == message.member_id:
        return [Drop("linked_already")]
    out: list[Outcome] = [merge_message(case, now, minted, message.member_id, message.minted)]
    if beats(message.member_id, message.minted, now, minted):
        linked = sender.linked if sender is not None else []
        out.append(Save(key, Sender(message.member_id, message.minted, linked)))
    return out


def merge(case: Case, member: Member | None, winner: str, winner_minted: str) -> list[Outcome]:
    """At a member's partition: it and `winner` are one."""
    id = case.member_id
    if member is None:
        member = Member(case.minted, Fragment())
    if winner == id:
        return [Drop("merged_already")]
    if member.merged_into is None:
        if beats(id, member.minted, winner, winner_minted):
            return [merge_message(case, id, member.minted, winner, winner_minted)]
        return _lose(case, member, winner, winner_minted)
    known = member.merged_into
    if known == winner:
        return [Drop("merged_already")]
    out: list[Outcome] = [merge_message(case, known, member.merged_minted, winner, winner_minted)]
    if beats(winner, winner_minted, known, member.merged_minted):
        after = copy(member)
        after.merged_into, after.merged_minted = winner, winner_minted
        out.extend(told(case, member, after))
        out.append(Save(member_state(case.workspace, id), after))
    return out


def _lose(case: Case, member: Member, winner: str, winner_minted: str) -> list[Outcome]:
    """Point to the winner and send it every fragment."""
    after = Member(member.minted, Fragment(member.own.revision), merged_into=winner, merged_minted=winner_minted)
    out: list[Outcome] = [
        case.happened("member.merged", iso(case.now), winner, merged_into=winner, user_id=user_id_of(member))
    ]
    for origin, fragment in ((case.member_id, member.own), *sorted(member.absorbed.items())):
        raw = msgspec.Raw(msgspec.json.encode(fragment))
        detour = 0 if origin == case.member_id else 1
        out.append(
            routed(
                case, "absorb", winner, winner_minted, detour, origin=origin, revision=fragment.revision, fragment=raw
            )
        )
    out.extend(told(case, member, after))
    out.append(Save(member_state(case.workspace, case.member_id), after))
    return out


def absorb(case: Case, member: Member | None, message: Routed) -> list[Outcome]:
    """At the winner's partition: take the fragment of `message.origin`, once per revision."""
    origin, revision = message.origin or "", message.revision
    if origin == case.member_id:
        return [Drop("absorbed_already")]
    if member is not None and member.merged_into is not None:
        return forward(case, member, "absorb", origin=origin, revision=revision, fragment=message.fragment)
    before = member
    if member is None:
        member = Member(case.minted, Fragment(created=case.now))
    have = member.absorbed.get(origin)
    if have is not None and have.revision >= revision:
        return [Drop("absorbed_already")]
    after = copy(member)
    after.absorbed = {**member.absorbed, origin: _fragment(message.fragment)}
    more: dict[str, Any] = {"user_id": user_id_of(after)}
    at = iso(case.now)
    out: list[Outcome] = []
    if before is None:
        out.append(case.happened("member.created", at, **more))
    out.append(case.happened("member.merged", at, origin, merged_from=origin, **more))
    out.extend(_joined(case, member, after, origin, more))
    out.extend(told(case, before, after))
    out.append(Save(member_state(case.workspace, case.member_id), after))
    if message.hops:
        out.append(routed(case, "merge", origin, "anonymous_id", winner=case.member_id, winner_minted=member.minted))
    return out


def _joined(case: Case, member: Member, after: Member, origin: str, more: dict[str, Any]) -> list[Outcome]:
    """Member events for what the fold changed: traits, and values that stand against those of the
    fragment; consents."""
    old, new = fold(member), fold(after)
    changed, stands = {}, {}
    for name in after.absorbed[origin].traits:
        trait = new.traits[name]
        if not same(trait, old.traits.get(name)):
            changed[name] = trait
        elif not removed(old.traits.get(name)):
            stands[name] = trait
    out: list[Outcome] = []
    for kind, traits in (("member.updated", changed), ("traits.late", stands)):
        if traits:
            out.append(
                case.happened(
                    kind,
                    iso(case.now),
                    origin,
                    traits={name: t.value for name, t in traits.items()},
                    trait_times={name: iso(t.at) for name, t in traits.items()},
                    **more,
                )
            )
    for key, said in after.absorbed[origin].consents.items():
        if newer(said, old.consents.get(key)):
            entry = consent.entry(key, said)
            out.append(case.happened("consent.changed", entry.since, f"{origin}:{key}", consent=entry, **more))
    return out
