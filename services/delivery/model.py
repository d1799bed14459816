"""What the delivery workers keep, ask of the effector, and hear from it."""

from enum import StrEnum
from hashlib import blake2b

import msgspec

from rondo_common.active import GLOBAL_TYPES
from rondo_common.records import SendState, Suppression

EMPTY = msgspec.Raw(b"{}")
NULL = msgspec.Raw(b"null")


class Status(StrEnum):
    """States of a send (records.SendState.status)."""

    QUEUED = "queued"
    HELD = "held"
    SUBMITTING = "submitting"
    RETRY = "retry"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RETURNED = "returned"
    CANCELLED = "cancelled"


FINAL = frozenset((Status.ACCEPTED, Status.REJECTED, Status.RETURNED, Status.CANCELLED))


class MemberState(msgspec.Struct, omit_defaults=True, frozen=True):
    """What this channel needs of a member, under `m:<workspace>:<member>`: the channel's address, its
    consents by topic (granted or denied), its suppressions, and all traits for rendering."""

    address: str | None = None
    address_id: str | None = None
    user_id: str | None = None
    locale: str | None = None
    consents: dict[str, str] = {}
    suppressions: list[Suppression] = []
    gone: str | None = None
    """merged or erased: not spoken to any more."""
    contact: bool = False
    """A contact record was seen."""
    profile: bool = False
    """A profile record was seen."""
    traits: msgspec.Raw = EMPTY


class Held(msgspec.Struct, frozen=True):
    """Index of a send that a pause holds, under `h:<workspace>:<campaign>:<touch>`."""

    member_id: str


class Worker(msgspec.Struct, frozen=True):
    """Global `g:worker` of a partition. `gen` rises with each assignment: a `submitting` of an older
    generation was left over by a predecessor."""

    gen: int = 0


TYPES: dict[str, type] = {"m": MemberState, "o": SendState, "h": Held, "g:worker": Worker, **GLOBAL_TYPES}


class Message(msgspec.Struct, frozen=True):
    """A rendered message, ready for any provider of its channel. `sender` and `subject` of e-mail
    only; `text` is always there. `args` travel with it and come back in callbacks."""

    to: str
    text: str
    html: str = ""
    subject: str = ""
    sender: str = ""
    unsubscribe: str = ""
    """One-click unsubscribe address (RFC 8058), empty for transactional messages."""
    args: dict[str, str] = {}
    at: int = 0
    """ms; becomes the Date header."""
    text_pieces: list[str] = []
    html_pieces: list[str] = []
    """What `text` and `html` of a rendered template are made of, for writing them as MIME; may be empty."""


class Call(msgspec.Struct, frozen=True):
    """Ask the provider to send. `id` is "<touch>:<calls>", the mark's name and the answer's id."""

    id: str
    touch_id: str
    gen: int
    workspace: str
    campaign: str
    class_: str
    lane: str
    address_id: str
    message: Message
    trace: str = ""
    """traceparent of the send, for the span of the call."""


class Lookup(msgspec.Struct, frozen=True):
    """Ask the provider whether it took the message of an earlier call: one to `to` whose text has this
    digest, since `since` (ms)."""

    to: str
    digest: str
    since: int


class Check(msgspec.Struct, frozen=True):
    """Ask whether the call `call` of generation `gen`, whose answer never came, had begun."""

    call: str
    gen: int


class Begin(msgspec.Struct, frozen=True):
    """This worker owns the partition from now on, under generation `gen`; `stops` are its stop flags:
    (workspace, campaign or "*") -> paused or cancelled."""

    gen: int
    stops: dict[tuple[str, str], str]


class Stop(msgspec.Struct, frozen=True):
    """A stop flag of the partition changed; `state` None lifts it."""

    workspace: str
    campaign: str
    state: str | None


class Forget(msgspec.Struct, frozen=True):
    """The outcome of this call, and of `more` of its generation, is committed: their marks may go."""

    call: str
    gen: int
    more: tuple[str, ...] = ()


class Verdict(StrEnum):
    """What the effector says of a call."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RETRY = "retry"
    """The provider surely did not take it and said: later. Counts as a try."""
    NOT_SENT = "not_sent"
    """The call did not begin or did not get through: surely not taken; no try."""
    UNKNOWN = "unknown"
    BLOCKED = "blocked"
    """The member's STOP came first."""


class Answer(msgspec.Struct, omit_defaults=True, frozen=True):
    """The effector's answer. `after` (ms) is the provider's own wish when to come again."""

    verdict: Verdict
    provider: str = ""
    provider_id: str | None = None
    reason: str | None = None
    detail: str | None = None
    permanent: bool = False
    after: int | None = None
    address_id: str | None = None


def digest(text: str) -> str:
    """Names a text without holding it."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
