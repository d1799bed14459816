"""Folds contacts and profiles into what a channel keeps of a member. Pure."""

import msgspec

from rondo_common import ids
from rondo_common.records import Contact
from services.delivery.model import EMPTY, MemberState

ADDRESS_KIND = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}
"""Kind of identifier a channel sends to; also the contact's field."""


class ProfileTraits(msgspec.Struct):
    """The part of a profile record that rendering needs."""

    traits: msgspec.Raw = EMPTY
    merged_into: str | None = None


def address_id(master: str, workspace: str, channel: str, address: str) -> str:
    """Id of an address, as profiles and ingestion make it (WIRE, top)."""
    kind = ADDRESS_KIND[channel]
    match kind:
        case "email":
            address = ids.normal_email(address)
        case "phone":
            address = ids.normal_phone(address)
    return ids.identifier_id(ids.workspace_secret(master, workspace), kind, address)


def with_contact(old: MemberState | None, contact: Contact | None, channel: str, master: str) -> MemberState:
    """`old` with the newest contact; None is the tombstone of an erased member."""
    old = old or MemberState()
    if contact is None or contact.erased:
        return MemberState(gone="erased", contact=True, profile=True)
    address = getattr(contact, ADDRESS_KIND[channel]) or None
    return MemberState(
        address=address,
        address_id=address_id(master, contact.workspace, channel, address) if address else None,
        user_id=contact.user_id,
        locale=contact.locale,
        consents={c.topic: c.state for c in contact.consents if c.channel == channel},
        suppressions=[s for s in contact.suppressions if s.channel == channel],
        gone="merged" if contact.merged_into else None,
        contact=True,
        profile=old.profile,
        traits=old.traits,
    )


def with_profile(old: MemberState | None, profile: ProfileTraits | None) -> MemberState:
    """`old` with the newest traits; None is the tombstone of an erased member."""
    old = old or MemberState()
    if profile is None:
        return MemberState(gone="erased", contact=True, profile=True)
    # a copy: the traits are a slice of the record's buffer and would keep all of it in memory
    return msgspec.structs.replace(old, profile=True, traits=msgspec.Raw(bytes(profile.traits)))
