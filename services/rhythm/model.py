"""What the stage keeps: the Struct of every state key.

    m:<workspace>:<member>              Member     what the gate knows of a member, agenda and ledger
    w:<workspace>:<campaign>:<member>   Mark       the member has waiting touches of the campaign
    g:policies:<workspace>              PolicySet  active policies
    g:stop:<workspace>:<campaign>       StopFlag   paused or cancelled (rondo_common.active)
    g:cancels:<workspace>:<campaign>    Cancels    how often it was cancelled

Instants are ms since 1970. All are values: change them with msgspec.structs.replace.
"""

import msgspec

from rondo_common.active import GLOBAL_TYPES
from rondo_common.records import Definition

NEVER = 0
"""`Slot.due` of a touch that waits for an event instead of a time."""


class Slot(msgspec.Struct, array_like=True, frozen=True):
    """A touch on the agenda.

    `status`: parked (not decided yet, until its decide_at), arriving (its member's contact is not
    here yet), deferred, sent (let through, kept until delivery's final word, as it may come back).
    `due`: when it is decided next, NEVER when only an event helps. `attempt`: decisions so far.
    `since`: when it took this status. `reason`: of the deferral. `touch`: the Touch as JSON.
    `same`: short name of run, step and occurrence, whoever the touch goes to. `cancels`: how often
    its campaign had been cancelled when it came: a later cancel means it, an earlier one does not.
    """

    touch_id: str
    status: str
    due: int
    attempt: int
    since: int
    campaign: str
    reason: str
    channel: str
    touch: msgspec.Raw
    same: str = ""
    cancels: int = 0

    @property
    def waiting(self) -> bool:
        return self.status != "sent"


class Spent(msgspec.Struct, array_like=True, frozen=True):
    """One line of the ledger: a message that counts against budgets from `at` on."""

    touch_id: str
    at: int
    channel: str
    topic: str
    same: str = ""


class Consent(msgspec.Struct, array_like=True, frozen=True):
    """The newest statement for a channel and topic ("*": the whole channel)."""

    channel: str
    topic: str
    state: str
    event_id: str


class Snapshot(msgspec.Struct, omit_defaults=True, frozen=True):
    """Of a Contact what decisions need. `reachable`: channels with an address. `suppressed`: reason
    (bounce, complaint, manual) by channel of the present address, or by "*". `quiet`: the member's
    own quiet hours, from and to as HH:MM."""

    reachable: tuple[str, ...] = ()
    zone: str | None = None
    phone: str | None = None
    preferred: str | None = None
    channels: tuple[str, ...] = ()
    consents: tuple[Consent, ...] = ()
    suppressed: dict[str, str] = {}
    paused_until: int | None = None
    quiet: tuple[str, str] | None = None
    merged_into: str | None = None
    erased: bool = False


class Member(msgspec.Struct, omit_defaults=True, frozen=True):
    """Everything about one member. `talks`: [open, sequence] by conversation. `timer`: when the
    agenda's timer is set to, NEVER for none. `moved`: moves sent to the winner of a merge.
    `absorbed`: revision of the last move by origin."""

    contact: Snapshot | None = None
    agenda: tuple[Slot, ...] = ()
    ledger: tuple[Spent, ...] = ()
    talks: dict[str, tuple[bool, int]] = {}
    timer: int = NEVER
    moved: int = 0
    absorbed: dict[str, int] = {}

    @property
    def empty(self) -> bool:
        return self == _NOBODY

    def conversation(self) -> str | None:
        """Id of an open conversation, None without one."""
        return next((id for id, (open_, _) in self.talks.items() if open_), None)


_NOBODY = Member()


class Mark(msgspec.Struct, frozen=True):
    """An entry of an index: its key says everything."""


class PolicySet(msgspec.Struct, frozen=True):
    """Active versions of a workspace's policies by "kind:id"; a deleted one stays, to know its version."""

    policies: dict[str, Definition]


class Cancels(msgspec.Struct, frozen=True):
    """How often a campaign was cancelled, as this partition has seen it; `last` is the newest command."""

    count: int
    last: str


class Settled(msgspec.Struct, array_like=True, frozen=True):
    """A delivery's word about a touch whose slot has moved to the winner of a merge."""

    touch_id: str
    attempt: int
    status: str
    at: int


class Told(msgspec.Struct, frozen=True):
    """Of a Delivery what the gate reads."""

    touch_id: str
    status: str
    at: str
    attempt: int = 1


class Moved(msgspec.Struct, omit_defaults=True, frozen=True):
    """`state` of this stage's moves: what the loser had, or got after the merge."""

    agenda: tuple[Slot, ...] = ()
    ledger: tuple[Spent, ...] = ()
    talks: dict[str, tuple[bool, int]] = {}
    settled: tuple[Settled, ...] = ()


STATE_TYPES: dict[str, type] = {
    "m": Member,
    "w": Mark,
    "g:policies": PolicySet,
    "g:stop": GLOBAL_TYPES["g:stop"],
    "g:cancels": Cancels,
}


def state_key(member_key: str) -> str:
    """State key, and owner of timers, of the member with this Kafka key (workspace:member)."""
    return f"m:{member_key}"


def mark_key(workspace: str, campaign: str, member_id: str) -> str:
    return f"w:{workspace}:{campaign}:{member_id}"


def mark_prefix(workspace: str, campaign: str | None) -> str:
    """Prefix of the marks of a campaign, or (None) of all of a workspace."""
    return f"w:{workspace}:" if campaign is None else f"w:{workspace}:{campaign}:"


def policies_key(workspace: str) -> str:
    return f"g:policies:{workspace}"


def cancels_key(workspace: str, campaign: str) -> str:
    return f"g:cancels:{workspace}:{campaign}"
