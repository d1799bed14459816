"""Bodies of campaigns and templates (WIRE 5) as Structs. Unknown fields are refused when read."""

from functools import lru_cache
from typing import Any, Literal

import msgspec

from rondo_common.durations import parse_duration
from rondo_common.records import Definition

Channel = Literal["email", "sms", "messaging", "social"]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    pass


class Condition(_Strict, frozen=True):
    """One of `where`: all must hold. Operators as in a segment rule (WIRE 4)."""

    property: str
    operator: str
    value: Any = None


class EventFilter(_Strict, frozen=True):
    """An event by name and properties."""

    event: str
    where: list[Condition] = []


class Trigger(_Strict, frozen=True):
    """What starts a triggered campaign for a member: exactly one of event, segment, api.

    `delay`: wait that long first. `cancel_on`: an event that calls it off meanwhile. `max_age`: a
    change of membership (P1D unless given), or, when given, an event, that is older starts nothing.
    """

    event: str | None = None
    where: list[Condition] = []
    segment: str | None = None
    on: Literal["entered", "left"] | None = None
    api: bool | None = None
    delay: str | None = None
    cancel_on: EventFilter | None = None
    max_age: str | None = None


class Audience(_Strict, frozen=True):
    """Who a broadcast is for: exactly one of a segment's id, an inline rule."""

    segment: str | None = None
    rule: dict[str, Any] | None = None


class Schedule(_Strict, frozen=True):
    """When a broadcast begins: `at` is "now" or an instant."""

    at: str = "now"


class Goal(_Strict, frozen=True):
    """What the campaign is for."""

    event: str
    within: str = "P7D"
    where: list[Condition] = []
    target: float | None = None


class After(_Strict, frozen=True):
    """Re-entry no sooner than this duration after the last entry."""

    after: str


class CampaignBody(_Strict, frozen=True):
    """A broadcast or triggered campaign."""

    type: Literal["broadcast", "triggered"]
    template: str
    channels: list[Channel]
    class_: Literal["marketing", "transactional"] = msgspec.field(name="class")
    topic: str = ""
    name: str | None = None
    description: str | None = None
    tags: list[str] = []
    channel_rule: Literal["first_reachable", "preferred", "all"] = "first_reachable"
    priority: int = 50
    value: float = 1.0
    expires_after: str | None = None
    audience: Audience | None = None
    schedule: Schedule | None = None
    goal: Goal | None = None
    trigger: Trigger | None = None
    reentry: Literal["once", "always"] | After | None = None

    @property
    def lane(self) -> str:
        """Lane of its touches."""
        if self.class_ == "transactional":
            return "transactional"
        return "bulk" if self.type == "broadcast" else "triggered"

    @property
    def expires_ms(self) -> int | None:
        return parse_duration(self.expires_after) if self.expires_after else None

    @property
    def delay_ms(self) -> int:
        return parse_duration(self.trigger.delay) if self.trigger and self.trigger.delay else 0

    @property
    def several(self) -> bool:
        """Whether each channel gets a touch of its own."""
        return self.channel_rule == "all"

    @property
    def touches_each(self) -> int:
        """Touches a member."""
        return len(self.channels) if self.several else 1


class EmailPart(_Strict, frozen=True):
    """The email of a template. `from` may be left to the installation's default in inline content."""

    subject: str
    from_: str | None = msgspec.field(name="from", default=None)
    mjml: str | None = None
    html: str | None = None
    text: str | None = None
    reply_to: str | None = None
    preheader: str | None = None


class EmailVariant(_Strict, frozen=True):
    """A language's email: what it leaves out comes from the default language."""

    subject: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    mjml: str | None = None
    html: str | None = None
    text: str | None = None
    reply_to: str | None = None
    preheader: str | None = None


class TextPart(_Strict, frozen=True):
    """The text of an SMS or a message."""

    text: str


class Variant(_Strict, frozen=True):
    """A template in one more language."""

    email: EmailVariant | None = None
    sms: TextPart | None = None
    messaging: TextPart | None = None


class TemplateBody(_Strict, frozen=True):
    """A template: a part for each channel, other languages under `locales`."""

    default_locale: str = "en"
    name: str | None = None
    description: str | None = None
    email: EmailPart | None = None
    sms: TextPart | None = None
    messaging: TextPart | None = None
    locales: dict[str, Variant] = {}

    def channels(self) -> set[str]:
        """Channels it has a part for."""
        return {c for c in ("email", "sms", "messaging") if getattr(self, c) is not None}


_MOST_BODIES = 4096
_bodies: dict[int, tuple[Definition, "CampaignBody"]] = {}
"""By identity: asked for each member of a run, and hashing the body's bytes each time costs more than all else."""


@lru_cache(maxsize=4096)
def campaign_from(raw: bytes) -> CampaignBody:
    """The body of a campaign's version from its JSON, read once."""
    return msgspec.json.decode(raw, type=CampaignBody)


def campaign_of(definition: Definition) -> CampaignBody:
    """The body of a campaign's version, read once. What is stored was validated when it was put."""
    known = _bodies.get(id(definition))
    if known is None or known[0] is not definition:
        if len(_bodies) >= _MOST_BODIES:
            _bodies.clear()
        known = _bodies[id(definition)] = definition, campaign_from(bytes(definition.body))
    return known[1]
