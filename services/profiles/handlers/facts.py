"""Telling others what changed in a member: contact, profile, claims on addresses."""

from collections.abc import Iterable

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.ids import member_key
from rondo_common.outcomes import Emit, Outcome
from rondo_common.records import Contact, Link
from services.profiles import addresses, views
from services.profiles.fragments import fold
from services.profiles.handlers.case import Case
from services.profiles.model import Fragment, Member


def told(case: Case, before: Member | None, after: Member) -> list[Outcome]:
    """Profile always, Contact when one of its facts changed, claims when an address or the instant it
    was stated changed. For calls where anything but the activity may have changed."""
    whole = fold(after)
    ws, id = case.workspace, case.member_id
    out: list[Outcome] = []
    contact = views.contact(ws, id, after, whole)
    if before is None:
        old, old_whole = Contact(ws, id, created_at=contact.created_at), Fragment()
    else:
        old_whole = fold(before)
        old = views.contact(ws, id, before, old_whole)
        old.created_at = contact.created_at
    if contact != old or before is None:  # a new member too: the gate waits for one
        out.append(Emit(topics.CONTACTS, case.key, contact, "contact.changed", subject=id))
    out.extend(_claims(case, old, old_whole, contact, whole))
    profile = views.profile(ws, id, after, whole)
    out.append(Emit(topics.PROFILES, case.key, profile, "profile.changed", subject=id))
    return out


def _claims(case: Case, old: Contact, old_whole: Fragment, new: Contact, whole: Fragment) -> Iterable[Outcome]:
    for kind in addresses.KINDS:
        was, now = getattr(old, kind), getattr(new, kind)
        if was is None and now is None:
            continue
        was_id = addresses.address_id(case.secret, kind, was) if was is not None else None
        now_id = addresses.address_id(case.secret, kind, now) if now is not None else None
        if was_id is not None and was_id != now_id:
            yield _claim(case, kind, was_id, old_whole.traits[kind].at, False)
        if now_id is not None and (was_id != now_id or old_whole.traits[kind].at != whole.traits[kind].at):
            yield _claim(case, kind, now_id, whole.traits[kind].at, True)


def _claim(case: Case, kind: str, identifier: str, at: int, held: bool) -> Emit:
    """A claim is released at the instant it was made: on a tie, released wins."""
    link = Link("claim", case.workspace, identifier, kind, case.member_id, iso(at), held, minted=case.minted)
    return Emit(topics.LINKS, member_key(case.workspace, identifier), link, "profiles.claim")
