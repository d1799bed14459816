"""A captured message, and what may be asked about it."""

from typing import Any

import msgspec


class Message(msgspec.Struct, omit_defaults=True):
    """One message as a provider took it. `args` is what it carries of its cause: w, m, t, r, c for
    workspace, member, touch, run, campaign. `pixel`, `unsubscribe` and `callback` are URLs found in it."""

    id: str
    channel: str
    provider: str
    provider_id: str
    sender: str
    to: str
    received_at: str
    at: int
    args: dict[str, str] = {}
    subject: str | None = None
    text: str = ""
    html: str | None = None
    headers: dict[str, str] = {}
    links: list[str] = []
    sms_segments: int | None = None
    size: int = 0
    pixel: str | None = None
    unsubscribe: str | None = None
    callback: str | None = None
    message_id: str | None = None
    raw: bytes = b""


class Stored(msgspec.Struct):
    """One line of inbox.log: a message, or the mark that all before it (of `workspace`, if given) were
    deleted."""

    message: Message | None = None
    workspace: str | None = None


def view(m: Message) -> dict[str, Any]:
    """A message as the inbox API shows it (WIRE 9)."""
    return {
        "id": m.id,
        "channel": m.channel,
        "provider": m.provider,
        "touch_id": m.args.get("t"),
        "member_id": m.args.get("m"),
        "campaign": m.args.get("c"),
        "run_id": m.args.get("r"),
        "workspace": m.args.get("w"),
        "from": m.sender,
        "to": m.to,
        "subject": m.subject,
        "text": m.text,
        "html": m.html,
        "headers": m.headers,
        "links": m.links,
        "sms_segments": m.sms_segments,
        "bytes": m.size,
        "received_at": m.received_at,
    }
