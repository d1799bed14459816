"""Fragments: how each part takes a statement, and how two fragments join. Pure.

Every rule here is commutative and associative, so members end the same whatever the order in which
events, merges and fragments arrive.
"""

from collections.abc import Iterable
from typing import TypeVar

from services.profiles.model import MAX_NAMES, Consent, Fragment, Hold, Member, Trait

V = TypeVar("V")


def later(trait: Trait, other: Trait | None) -> bool:
    """Whether `trait` wins over `other`: the later instant, on a tie the larger text."""
    if other is None or trait.at > other.at:
        return True
    return trait.at == other.at and bytes(trait.value) > bytes(other.value)


def removed(trait: Trait | None) -> bool:
    """Whether there is no value: never said, or said to be null."""
    return trait is None or bytes(trait.value) == b"null"


def same(trait: Trait | None, other: Trait | None) -> bool:
    """Whether both have the same value, whenever it was said."""
    if removed(trait) or removed(other):
        return removed(trait) and removed(other)
    return bytes(trait.value) == bytes(other.value)  # type: ignore[union-attr]


def newer(consent: Consent, other: Consent | None) -> bool:
    """Whether `consent` wins: the later instant, on a tie denied, then the larger event id."""
    if other is None:
        return True
    return (consent.at, consent.state == "denied", consent.event_id) > (
        other.at,
        other.state == "denied",
        other.event_id,
    )


def held_over(hold: Hold, other: Hold | None) -> bool:
    """Whether `hold` wins: the later instant, on a tie the one that holds."""
    return other is None or (hold.at, hold.held) > (other.at, other.held)


def recent(counts: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The names with the latest events, at most MAX_NAMES of them."""
    if len(counts) <= MAX_NAMES:
        return counts
    names = sorted(counts, key=lambda n: (-counts[n][1], n))[:MAX_NAMES]
    return {n: counts[n] for n in names}


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _earliest(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    out = dict(a)
    for name, at in b.items():
        if name not in out or at < out[name]:
            out[name] = at
    return out


def join(a: Fragment, b: Fragment) -> Fragment:
    """Both fragments as one."""
    counts = dict(a.counts)
    for name, (n, at) in b.counts.items():
        m, before = counts.get(name, (0, at))
        counts[name] = (m + n, max(before, at))
    traits = dict(a.traits)
    traits.update((name, t) for name, t in b.traits.items() if later(t, a.traits.get(name)))
    preferences = dict(a.preferences)
    preferences.update((name, t) for name, t in b.preferences.items() if later(t, a.preferences.get(name)))
    consents = dict(a.consents)
    consents.update((key, c) for key, c in b.consents.items() if newer(c, a.consents.get(key)))
    holds = dict(a.suppressions)
    holds.update((key, h) for key, h in b.suppressions.items() if held_over(h, a.suppressions.get(key)))
    groups = dict(a.groups)
    for name, at in b.groups.items():
        groups[name] = max(at, groups.get(name, at))
    return Fragment(
        a.revision + b.revision,
        _least(a.created, b.created),
        _most(a.updated, b.updated),
        _least(a.first, b.first),
        _most(a.last, b.last),
        a.events + b.events,
        counts,
        _earliest(a.user_ids, b.user_ids),
        _earliest(a.anonymous_ids, b.anonymous_ids),
        traits,
        groups,
        consents,
        holds,
        preferences,
    )


def fold(member: Member) -> Fragment:
    """The whole of a member: its own fragment joined with those it absorbed."""
    whole = member.own
    for fragment in member.absorbed.values():
        whole = join(whole, fragment)
    return whole


def fragments(member: Member) -> Iterable[Fragment]:
    """The member's own fragment and those it absorbed."""
    return (member.own, *member.absorbed.values()) if member.absorbed else (member.own,)


def standing(member: Member, name: str) -> Trait | None:
    """The winning statement of one trait over all fragments."""
    best = member.own.traits.get(name)
    for fragment in member.absorbed.values():
        other = fragment.traits.get(name)
        if other is not None and later(other, best):
            best = other
    return best


def standing_consent(member: Member, key: str) -> Consent | None:
    """The winning statement of one (channel, topic) over all fragments."""
    best = member.own.consents.get(key)
    for fragment in member.absorbed.values():
        other = fragment.consents.get(key)
        if other is not None and newer(other, best):
            best = other
    return best


def user_id_of(member: Member) -> str | None:
    """The member's first user id: the smallest by instant, then by text."""
    if not member.absorbed:
        ids = member.own.user_ids
        if len(ids) < 2:
            return next(iter(ids), None)
        return min(ids, key=lambda u: (ids[u], u))
    return first_user_id(fold(member))


def first_user_id(whole: Fragment) -> str | None:
    """As `user_id_of`, of a fold."""
    ids = whole.user_ids
    return min(ids, key=lambda u: (ids[u], u)) if ids else None
