"""What decisions keep of a contact. Pure."""

from rondo_common import ids
from rondo_common.clock import from_iso
from rondo_common.records import Contact
from services.rhythm.model import Consent, Snapshot
from services.rhythm.quiet import minutes

_ADDRESS = {"email": "email", "phone": "sms", "telegram_chat_id": "messaging"}
"""Field of a Contact, which is also the kind of its identifier, to the channel it serves."""


def snapshot(contact: Contact, secret: bytes) -> Snapshot:
    """The snapshot of a contact. `secret` is the workspace's, for the ids of its addresses."""
    if contact.erased:
        return Snapshot(erased=True)
    if contact.merged_into is not None:
        return Snapshot(merged_into=contact.merged_into)
    own = contact.quiet_hours or {}
    return Snapshot(
        reachable=tuple(c for field, c in _ADDRESS.items() if getattr(contact, field)),
        zone=contact.timezone,
        phone=ids.normal_phone(contact.phone) if contact.phone else None,
        preferred=contact.preferred_channel,
        channels=tuple(contact.channels or ()),
        consents=tuple(Consent(c.channel, c.topic, c.state, c.event_id) for c in contact.consents),
        suppressed=_suppressed(contact, secret) if contact.suppressions else {},
        paused_until=_instant(contact.paused_until),
        quiet=_own_hours(own.get("from"), own.get("to")),
    )


def _suppressed(contact: Contact, secret: bytes) -> dict[str, str]:
    """The first reason by channel, of suppressions that hold for the present address."""
    present = {
        "email": ids.identifier_id(secret, "email", ids.normal_email(contact.email)) if contact.email else None,
        "sms": ids.identifier_id(secret, "phone", ids.normal_phone(contact.phone)) if contact.phone else None,
        "messaging": ids.identifier_id(secret, "telegram_chat_id", contact.telegram_chat_id)
        if contact.telegram_chat_id
        else None,
    }
    found: dict[str, str] = {}
    for s in contact.suppressions:
        holds = s.address_id is None or s.address_id == present.get(s.channel)
        if holds:
            found.setdefault(s.channel, s.reason)
    return found


def _instant(text: str | None) -> int | None:
    try:
        return from_iso(text) if text else None
    except ValueError:
        return None


def _own_hours(start: str | None, end: str | None) -> tuple[str, str] | None:
    """A member's own quiet hours, when they can be read and leave a free time."""
    if not start or not end or start == end:
        return None
    try:
        return None if minutes(start) == 1440 or {minutes(start), minutes(end)} == {0, 1440} else (start, end)
    except ValueError:
        return None
