"""Addresses and other facts of contact, in the form they are used in; what is not valid is None. Pure."""

import re
from functools import lru_cache
from zoneinfo import available_timezones

import phonenumbers

from rondo_common.ids import identifier_id, normal_email, normal_phone
from services.profiles.model import CHANNEL_SET

_EMAIL = re.compile(r"[^@\s<>,;\"\x00-\x1f]+@[^@\s<>,;\"\x00-\x1f]+")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_CHAT = re.compile(r"@?[A-Za-z0-9_-]{1,64}")
_ZONES = frozenset(available_timezones())

KINDS = ("email", "phone", "telegram_chat_id")
"""Kinds of address, which are also the names of the traits and of the Contact's fields."""
ADDRESS_OF = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}
"""Kind of address a channel sends to."""


def email(value: object) -> str | None:
    """An e-mail address as given, trimmed. Not checked beyond its shape: the provider's word counts."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    return text if len(text) <= 254 and _EMAIL.fullmatch(text) else None


@lru_cache(maxsize=8192)
def e164(text: str) -> str | None:
    """A phone number in E.164. It must carry its country (+...). Accepted when the numbering plan
    has numbers of this length: ranges are opened faster than tables follow."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def phone(value: object) -> str | None:
    """A phone number in E.164, of text that begins with +."""
    return e164(value.strip()) if isinstance(value, str) and len(value) <= 40 else None


def telegram_chat_id(value: object) -> str | None:
    """A chat id as text; a number is taken too."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _CHAT.fullmatch(value) else None


def timezone(value: object) -> str | None:
    """An IANA zone name."""
    return value if isinstance(value, str) and value in _ZONES else None


def locale(value: object) -> str | None:
    """A language tag such as fr or fr-FR."""
    return value if isinstance(value, str) and len(value) <= 35 and _LOCALE.fullmatch(value) else None


def preferred_channel(value: object) -> str | None:
    return value if isinstance(value, str) and value in CHANNEL_SET else None


READERS = {
    "email": email,
    "phone": phone,
    "telegram_chat_id": telegram_chat_id,
    "timezone": timezone,
    "locale": locale,
    "preferred_channel": preferred_channel,
}
"""By name of the trait."""


def address_id(secret: bytes, kind: str, address: str) -> str:
    """Id of an address in its form of comparison. `kind` as in KINDS."""
    if kind == "email":
        address = normal_email(address)
    elif kind == "phone":
        address = normal_phone(address)
    return identifier_id(secret, kind, address)
