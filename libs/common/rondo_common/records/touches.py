"""Intended messages, and the ones that were let through."""

import msgspec


class Touch(msgspec.Struct, omit_defaults=True):
    """One intended message, on rondo.touches.<lane>.v1. Also `kind` end: the end marker of a run's
    partition (touch_id empty, key workspace:run:<run_id>, explicit partition).

    `channels` in the order the campaign lists them; with channel_rule `all` there is one touch a
    channel. `decide_at`: the gate decides then, not before. `not_after`: too late afterwards.
    """

    workspace: str
    touch_id: str
    run_id: str
    campaign: str
    version: int
    step: str
    member_id: str
    occurrence: str
    class_: str = msgspec.field(name="class")
    topic: str
    lane: str
    channels: list[str]
    decide_at: str
    kind: str = "touch"
    channel_rule: str = "first_reachable"
    template: str | None = None
    template_version: int | None = None
    content: msgspec.Raw = None  # type: ignore[assignment]
    priority: int = 50
    value: float = 1.0
    not_after: str | None = None
    tags: list[str] = []
    data: msgspec.Raw = None  # type: ignore[assignment]
    """trigger.* of the template."""
    event: msgspec.Raw = None  # type: ignore[assignment]
    """event.* of the template: properties of the triggering event."""
    conversation_id: str | None = None


class Send(msgspec.Struct, omit_defaults=True):
    """A touch that was let through, on rondo.sends.<channel>.<lane>.v1. Delivery calls the provider
    within [not_before, send_by], else returns it to be decided again."""

    workspace: str
    touch_id: str
    decision_id: str
    attempt: int
    run_id: str
    campaign: str
    version: int
    step: str
    member_id: str
    channel: str
    lane: str
    class_: str = msgspec.field(name="class")
    topic: str
    not_before: str
    send_by: str
    template: str | None = None
    template_version: int | None = None
    content: msgspec.Raw = None  # type: ignore[assignment]
    data: msgspec.Raw = None  # type: ignore[assignment]
    event: msgspec.Raw = None  # type: ignore[assignment]
    conversation_id: str | None = None
