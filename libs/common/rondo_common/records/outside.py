"""What leaves the system, and what is kept about its use."""

from typing import Any

import msgspec


class CrmEvent(msgspec.Struct, omit_defaults=True):
    """The public contract: value of rondo.crm.events.v1 and body of the webhooks, the same bytes."""

    type: str
    timestamp: str
    data: dict[str, Any]


class Captured(msgspec.Struct, omit_defaults=True):
    """A message the capture process took, on rondo.captured.v1: its ids and headers, for erasure."""

    id: str
    channel: str
    provider: str
    received_at: str
    touch_id: str | None = None


class AuditEntry(msgspec.Struct, omit_defaults=True):
    """Who did what through the gateway, on rondo.audit.v1."""

    workspace: str
    id: str
    at: str
    actor: str
    action: str
    target: str
    status: int
    ip: str | None = None
