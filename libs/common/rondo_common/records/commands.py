"""What people ask for, on rondo.commands.v1."""

import msgspec

from rondo_common.records.definitions import Definition


class Command(msgspec.Struct, omit_defaults=True):
    """A command. One copy per partition (key workspace:kind:id, explicit partition) for:

    definition.activated (`definition`), run.start (`run_id`, `campaign`, `version`), campaign.pause,
    campaign.resume, campaign.cancel (`campaign`), stop.on and stop.off (the stop switch).
    Keyed workspace:member for: trigger (`run_id`, `campaign`, `version`, `member_id`, `data`), send (a
    transactional message: `template` or `content`, `channel`, `touch_id`), member.erase,
    member.suppress, member.preferences (`data`).
    """

    kind: str
    workspace: str
    id: str
    """Derived from the request (its Idempotency-Key when it has one): a repeat has the same."""
    at: str
    actor: str = ""
    definition: Definition | None = None
    campaign: str | None = None
    version: int | None = None
    run_id: str | None = None
    member_id: str | None = None
    user_id: str | None = None
    channel: str | None = None
    template: str | None = None
    content: msgspec.Raw = None  # type: ignore[assignment]
    """Inline content of a send, in the shape of a template body."""
    touch_id: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]
    """Trigger data, preferences, suppression."""
