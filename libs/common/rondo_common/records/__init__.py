"""The value of every topic: one msgspec Struct each, written as JSON. Split by noun.

Fields are added as optional ones only; a test reads stored samples of every past version.
Instants are RFC 3339 text in UTC (`rondo_common.clock.iso`); `workspace` and `member_id` mean the
same everywhere: the tenant, and the HMAC id of WIRE.

An optional `msgspec.Raw` field is annotated plain `msgspec.Raw` with the default None: msgspec reads the
union `Raw | None` as null only and refuses every other value.
"""

from rondo_common.records.commands import Command
from rondo_common.records.community import CommunityEvent
from rondo_common.records.decisions import Decision, GateVerdict
from rondo_common.records.definitions import Definition
from rondo_common.records.deliveries import Delivery, Engagement, SendState
from rondo_common.records.events import Event, Inbound, Rejected
from rondo_common.records.members import ConsentEntry, ConsentRecord, Contact, MemberEvent, Profile, Suppression
from rondo_common.records.moves import Move
from rondo_common.records.outside import AuditEntry, Captured, CrmEvent
from rondo_common.records.routing import Link, Routed
from rondo_common.records.runs import RunPart
from rondo_common.records.segments import Membership, MembershipChange, Memberships
from rondo_common.records.touches import Send, Touch

__all__ = [
    "AuditEntry",
    "Captured",
    "Command",
    "CommunityEvent",
    "ConsentEntry",
    "ConsentRecord",
    "Contact",
    "CrmEvent",
    "Decision",
    "Definition",
    "Delivery",
    "Engagement",
    "Event",
    "GateVerdict",
    "Inbound",
    "Link",
    "MemberEvent",
    "Membership",
    "MembershipChange",
    "Memberships",
    "Move",
    "Profile",
    "Rejected",
    "Routed",
    "RunPart",
    "Send",
    "SendState",
    "Suppression",
    "Touch",
]
