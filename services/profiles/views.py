"""A member as others see it: Profile and Contact out of the fold. Pure."""

from typing import Any

import msgspec

from rondo_common.clock import iso
from rondo_common.records import ConsentEntry, Contact, Profile, Suppression
from services.profiles import addresses, consent, preferences
from services.profiles.fragments import first_user_id, fold, recent, removed
from services.profiles.model import CONTACT_TRAITS, Fragment, Member


def _iso(at: int | None) -> str | None:
    return None if at is None else iso(at)


def _consents(whole: Fragment) -> list[ConsentEntry]:
    return [consent.entry(key, c) for key, c in sorted(whole.consents.items())]


def _suppressions(whole: Fragment) -> list[Suppression]:
    found = []
    for key, hold in sorted(whole.suppressions.items()):
        if hold.held:
            channel, reason, address = key.split(":", 2)
            found.append(Suppression(channel, reason, iso(hold.at), address or None))
    return found


def facts(whole: Fragment) -> dict[str, Any]:
    """The valid contact facts by trait name."""
    found = {}
    for name in CONTACT_TRAITS:
        trait = whole.traits.get(name)
        if trait is not None:
            value = addresses.READERS[name](msgspec.json.decode(trait.value))
            if value is not None:
                found[name] = value
    return found


def contact(workspace: str, member_id: str, member: Member, whole: Fragment | None = None) -> Contact:
    """How the member may be reached. `whole` is the fold when it is at hand."""
    if member.merged_into is not None:
        return Contact(workspace, member_id, merged_into=member.merged_into)
    whole = fold(member) if whole is None else whole
    asked = preferences.values(whole.preferences)
    return Contact(
        workspace,
        member_id,
        first_user_id(whole),
        consents=_consents(whole),
        suppressions=_suppressions(whole),
        tempo=asked.get("tempo", {}),
        paused_until=asked.get("paused_until"),
        quiet_hours=asked.get("quiet_hours"),
        channels=asked.get("channels"),
        created_at=_iso(whole.created),
        **facts(whole),
    )


def profile(workspace: str, member_id: str, member: Member, whole: Fragment | None = None) -> Profile:
    """What is known of the member; of a merged-away one only where it went."""
    if member.merged_into is not None:
        return Profile(workspace, member_id, merged_into=member.merged_into)
    whole = fold(member) if whole is None else whole
    asked = preferences.values(whole.preferences)
    ids = whole.user_ids
    more: dict[str, Any] = {"preferences": msgspec.Raw(msgspec.json.encode(asked))} if asked else {}
    return Profile(
        workspace,
        member_id,
        first_user_id(whole),
        user_ids=sorted(ids, key=lambda u: (ids[u], u)),
        anonymous_ids=sorted(whole.anonymous_ids, key=lambda a: (whole.anonymous_ids[a], a)),
        traits={name: t.value for name, t in sorted(whole.traits.items()) if not removed(t)},
        consents=_consents(whole),
        suppressions=_suppressions(whole),
        groups=sorted(whole.groups),
        first_seen=_iso(whole.first),
        last_seen=_iso(whole.last),
        events=whole.events,
        event_counts={name: n for name, (n, _) in sorted(recent(whole.counts).items())},
        created_at=_iso(whole.created),
        updated_at=_iso(whole.updated),
        **more,
    )
