"""Statements of consent: how they are read. Pure."""

from typing import Any

import msgspec

from rondo_common.clock import iso
from rondo_common.records import ConsentEntry
from services.profiles.model import CHANNEL_SET, Consent


class Statement(msgspec.Struct, frozen=True):
    """What a "Consent Changed" event says, or what follows from STOP, START and an unsubscribe."""

    channel: str
    topic: str
    consent: Consent
    ip: str | None = None

    @property
    def key(self) -> str:
        return f"{self.channel}:{self.topic}"


class _Properties(msgspec.Struct):
    channel: str
    topic: str
    state: str
    text_version: Any = None
    source: Any = None
    ip: Any = None


_decode = msgspec.json.Decoder(_Properties).decode


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) else None


def read(properties: msgspec.Raw | None, at: int, event_id: str) -> Statement | None:
    """The statement in the properties of a consent event. None when it names no channel of ours, no
    topic, or a state other than granted and denied."""
    if properties is None:
        return None
    try:
        p = _decode(properties)
    except msgspec.DecodeError:
        return None
    if p.channel not in CHANNEL_SET or p.state not in ("granted", "denied") or not 0 < len(p.topic) <= 64:
        return None
    consent = Consent(at, p.state, event_id, _text(p.source), _text(p.text_version))
    return Statement(p.channel, p.topic, consent, _text(p.ip))


def entry(key: str, consent: Consent) -> ConsentEntry:
    """As it travels. `key` is channel:topic."""
    channel, _, topic = key.partition(":")
    c = consent
    return ConsentEntry(channel, topic, c.state, iso(c.at), c.event_id, c.source, c.text_version)
