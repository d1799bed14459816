"""What the stage keeps: the Struct of every state key.

    g:run:<workspace>:<run>        RunShare      a run that still emits or still waits for outcomes
    g:live:<workspace>:<segment>   Live          every member of this partition has been evaluated
    g:idx:<workspace>              TriggerIndex  open triggered runs by what starts them
    g:cut:<workspace>:<campaign>   Cut           when the campaign was cancelled last
    g:janitor                      Janitor       that the daily cleaning is set up
    m:<workspace>:<member>         MemberState
    t:<touch id>                   TouchState    at the partition that emitted the touch; of a broadcast only
                                                 once more is known than that it may go (touch_progress)
    r:<workspace>:<run>            RunShare      any other run
    d:<id>:<member>                Marker        a command from a plain producer was handled
    a:<workspace>:<member>         Absorbed      members merged into this one

Instants are ms since 1970. An optional Raw field is annotated plain Raw (see rondo_common.records).
"""

import msgspec

Raw = msgspec.Raw


class RunShare(msgspec.Struct, omit_defaults=True, frozen=True):
    """This partition's share of a run. Global (g:run) while the run still emits or has open touches
    here, under r: afterwards; runs of API triggers, which are many, are under r: from the start.

    `kind`: broadcast (expands an audience), triggered (open until cancelled), api (members named one by
    one). `phase`: waiting (for its time or its segment), expanding, expanded, open, cancelled.
    `counts` always sums to `touches`.
    """

    run_id: str
    campaign: str
    version: int
    kind: str
    phase: str
    started_at: int
    due: int = 0
    """When a broadcast begins, also `decide_at` of its touches."""
    segment: str | None = None
    data: Raw = None  # type: ignore[assignment]
    lane: str = "bulk"
    chunk: int = 0
    """Which part of the members is being swept, or comes next."""
    sweeping: bool = False
    audience: int = 0
    touches: int = 0
    handled: int = 0
    """API triggers that came to an end here: a touch, or none for a reason."""
    counts: dict[str, int] = {}
    reasons: dict[str, dict[str, int]] = {}
    engagement: dict[str, int] = {}
    changed_at: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    """Accepted touches by second, the last ten seconds, for the rate."""
    dirty: bool = False
    """Changed since it was published, and a timer is set to do so."""


class Live(msgspec.Struct, frozen=True):
    """Members of this partition are evaluated under `version` of a segment."""

    version: int
    at: int


class TriggerIndex(msgspec.Struct, omit_defaults=True, frozen=True):
    """Run ids of open triggered runs, by event name and by segment."""

    events: dict[str, tuple[str, ...]] = {}
    segments: dict[str, tuple[str, ...]] = {}


class Cut(msgspec.Struct, frozen=True):
    """Delayed triggers of a campaign entered up to `at` are void."""

    at: int


class Janitor(msgspec.Struct, frozen=True):
    """When the next cleaning is due."""

    due: int


class Pending(msgspec.Struct, omit_defaults=True, frozen=True):
    """A trigger that waits for its delay. `event_at`: time of the triggering event itself."""

    run_id: str
    campaign: str
    version: int
    occurrence: str
    kind: str
    due: int
    entered_at: int
    event_at: int
    event: Raw = None  # type: ignore[assignment]
    data: Raw = None  # type: ignore[assignment]
    void: bool = False
    """Called off; only its end is still to be counted."""


class MemberState(msgspec.Struct, omit_defaults=True, frozen=True):
    """What campaigns knows of a member. `segments`: version of the segment it is in, by id. `entries`:
    last entry into a campaign that limits re-entry. `pending`: delayed triggers by timer name."""

    segments: dict[str, int] = {}
    entries: dict[str, int] = {}
    pending: dict[str, Pending] = {}
    merged_into: str | None = None
    erased: bool = False

    @property
    def empty(self) -> bool:
        return not (self.segments or self.entries or self.pending or self.merged_into or self.erased)


class Absorbed(msgspec.Struct, omit_defaults=True, frozen=True):
    """`origins`: members merged into this one, with the revision of the last state taken from each;
    touches of theirs may be reported here and are passed on. `waiting`: reports on touches unknown here
    that came before the merge was heard of."""

    origins: dict[str, int] = {}
    waiting: tuple[Raw, ...] = ()


class TouchState(msgspec.Struct, array_like=True, frozen=True, omit_defaults=True):
    """How far a touch has come: see `touch_progress`. `seen`: bits of engagement already counted; `at`:
    when it was written or moved last."""

    run_id: str
    attempt: int = 0
    rank: int = 0
    bucket: str = "pending"
    reason: str = ""
    seen: int = 0
    at: int = 0


class Marker(msgspec.Struct, array_like=True, frozen=True):
    """Seen, when."""

    at: int


class Moved(msgspec.Struct, omit_defaults=True, frozen=True):
    """`state` of this stage's moves. Either a member's `fold` on its way to the winner, or one record
    for another partition: `decision`, `delivery`, `engagement` of a touch emitted there, a `command`
    (trigger or send) for a member that was merged."""

    fold: MemberState | None = None
    decision: Raw = None  # type: ignore[assignment]
    delivery: Raw = None  # type: ignore[assignment]
    engagement: Raw = None  # type: ignore[assignment]
    command: Raw = None  # type: ignore[assignment]


def run_key(workspace: str, run_id: str) -> str:
    return f"g:run:{workspace}:{run_id}"


def live_key(workspace: str, segment: str) -> str:
    return f"g:live:{workspace}:{segment}"


def index_key(workspace: str) -> str:
    return f"g:idx:{workspace}"


def cut_key(workspace: str, campaign: str) -> str:
    return f"g:cut:{workspace}:{campaign}"


JANITOR_KEY = "g:janitor"


def member_state_key(workspace: str, member_id: str) -> str:
    return f"m:{workspace}:{member_id}"


def touch_key(touch_id: str) -> str:
    return f"t:{touch_id}"


def share_key(workspace: str, run_id: str) -> str:
    return f"r:{workspace}:{run_id}"


def marker_key(id: str, member_id: str) -> str:
    """Of a command about a member; the same command passed on to another member is another."""
    return f"d:{id}:{member_id}"


def absorbed_key(workspace: str, member_id: str) -> str:
    return f"a:{workspace}:{member_id}"


def run_owner(workspace: str, run_id: str) -> str:
    """Owner of a run's timers."""
    return f"run:{workspace}:{run_id}"


STATE_TYPES: dict[str, type] = {
    "g:run": RunShare,
    "g:live": Live,
    "g:idx": TriggerIndex,
    "g:cut": Cut,
    "g:janitor": Janitor,
    "m": MemberState,
    "t": TouchState,
    "r": RunShare,
    "d": Marker,
    "a": Absorbed,
}
