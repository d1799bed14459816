"""Which time zones speak for a member. Pure: the tables of the phonenumbers package are data.

A phone number may belong to several zones; then all of them have to allow a message (the called
party's time counts, 47 CFR 64.1200(c)(1)).
"""

from functools import lru_cache
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import timezone as phone_timezone

from services.rhythm.model import Snapshot

SOURCES = ("member", "phone_region", "workspace")


@lru_cache(maxsize=16_384)
def phone_zones(phone: str) -> tuple[str, ...]:
    """Zones of a number in E.164, empty when they can't be told."""
    try:
        found = phone_timezone.time_zones_for_number(phonenumbers.parse(phone))
    except phonenumbers.NumberParseException:
        return ()
    return tuple(z for z in found if known(z))


@lru_cache(maxsize=1024)
def known(zone: str) -> bool:
    """Whether `zone` is the IANA name of a zone with rules."""
    if zone == "Etc/Unknown":
        return False
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


def zones_of(chain: tuple[str, ...], contact: Snapshot | None, workspace_zone: str) -> tuple[tuple[str, ...], str]:
    """Zones of a member and where they come from: the first source of `chain` that knows. A chain
    that ends without an answer falls back to the workspace's zone."""
    for source in chain:
        if source == "member" and contact and contact.zone and known(contact.zone):
            return (contact.zone,), source
        if source == "phone_region" and contact and contact.phone and (found := phone_zones(contact.phone)):
            return found, source
        if source == "workspace":
            break
    return (workspace_zone,), "workspace"
