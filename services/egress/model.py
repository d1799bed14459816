"""States of the egress stage."""

import msgspec


class Known(msgspec.Struct, omit_defaults=True):
    """`m:<workspace>:<member>`: the user id CRMs know a member by, and its open conversations' last
    sequence numbers (their events come at least once)."""

    user_id: str | None = None
    conversations: dict[str, int] = {}


class Queued(msgspec.Struct, omit_defaults=True):
    """`q:<webhook>:<event id>`: an event on its way to one webhook. `tries` calls failed so far."""

    workspace: str
    webhook: str
    event_id: str
    body: msgspec.Raw
    tries: int = 0


class Call(msgspec.Struct, frozen=True):
    """A webhook call to make: the task of the effector. Until `old_secret_until` (ms) the secret of the
    generation before signs too."""

    workspace: str
    webhook: str
    url: str
    secret_generation: int
    event_id: str
    body: bytes
    old_secret_until: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What came of a call. `gone` (410): the receiver wants no more."""

    ok: bool
    status: int = 0
    gone: bool = False
    detail: str = ""


class Webhook(msgspec.Struct, omit_defaults=True):
    """Body of a webhook's definition. `generation` counts its secrets; `old_secret_until` is set when one
    was replaced."""

    url: str
    types: list[str] = msgspec.field(default_factory=lambda: ["*"])
    generation: int = 1
    old_secret_until: str | None = None
    disabled: bool = False
