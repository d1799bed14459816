"""Policies: what may be written, and the form decisions use. Pure.

quiet_hours  windows of wall time in which marketing waits
budget       at most `limit` weighted messages in any rolling `per`, and a smallest gap
conflict     which of several touches that come due together wins
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from rondo_common.durations import parse_duration
from rondo_common.problems import Problem, from_validation, invalid
from rondo_common.records import Definition
from services.rhythm.model import PolicySet
from services.rhythm.quiet import DAYS, Window, Windows, minutes

KINDS = ("quiet_hours", "budget", "conflict")
ALL: Final = "*"

_Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
_Number = Annotated[float, msgspec.Meta(ge=0)]
_Names = Annotated[list[str], msgspec.Meta(min_length=1)]
Channel = Literal["*", "email", "sms", "messaging", "social"]
Class = Literal["marketing", "transactional"]


class WindowBody(msgspec.Struct, forbid_unknown_fields=True):
    days: Annotated[list[Literal["mo", "tu", "we", "th", "fr", "sa", "su"]], msgspec.Meta(min_length=1)]
    from_: str = msgspec.field(name="from")
    to: str


class QuietBody(msgspec.Struct, forbid_unknown_fields=True):
    """Transactional messages are never held, whatever `classes` lists."""

    windows: Annotated[list[WindowBody], msgspec.Meta(min_length=1)]
    kind: Literal["quiet_hours"] = "quiet_hours"
    id: _Id | None = None
    channels: Annotated[list[Channel], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: [ALL])
    classes: Annotated[list[Class], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["marketing"])
    timezone: Annotated[list[Literal["member", "phone_region", "workspace"]], msgspec.Meta(min_length=1)] = (
        msgspec.field(default_factory=lambda: ["member", "phone_region", "workspace"])
    )


class BudgetBody(msgspec.Struct, forbid_unknown_fields=True):
    """`min_gap` always defers; `on_exceed` says what happens above `limit`."""

    limit: _Number
    per: str
    kind: Literal["budget"] = "budget"
    id: _Id | None = None
    channels: Annotated[list[Channel], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: [ALL])
    topics: _Names = msgspec.field(default_factory=lambda: [ALL])
    weights: dict[Literal["email", "sms", "messaging", "social"], _Number] = {}
    min_gap: str | None = None
    on_exceed: Literal["defer", "skip"] = "defer"


class ConflictWindow(msgspec.Struct, forbid_unknown_fields=True):
    triggered: str = "PT0S"
    bulk: str = "PT1S"


class ConflictBody(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["conflict"] = "conflict"
    id: _Id | None = None
    window: ConflictWindow = msgspec.field(default_factory=ConflictWindow)
    loser: Literal["defer", "skip"] = "defer"


_BODIES: dict[str, type] = {"quiet_hours": QuietBody, "budget": BudgetBody, "conflict": ConflictBody}


def validate(kind: str, id: str, body: bytes) -> dict[str, Any]:
    """The body of a policy as it is kept, defaults filled in. Problem 400, 404 (unknown kind) or 422
    with pointers."""
    if kind not in _BODIES:
        raise Problem(404, "not-found", "There is no such kind of policy", f"One of {', '.join(KINDS)}")
    try:
        read: Any = msgspec.json.decode(body, type=_BODIES[kind])
    except msgspec.ValidationError as e:
        raise from_validation(e, title="The policy is not valid") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Problem(400, "malformed", "The request can't be read", f"Not JSON: {e}") from e
    try:
        msgspec.convert(id, _Id)
    except msgspec.ValidationError:
        raise _refused([invalid("/id", "invalid_id", "Ids match [a-z0-9][a-z0-9_-]{0,63}")]) from None
    errors = [*_same_id(read, id), *_meaning(read)]
    if errors:
        raise _refused(errors)
    kept: dict[str, Any] = msgspec.to_builtins(read)
    kept["id"] = id
    return kept


def _refused(errors: list[dict[str, str]]) -> Problem:
    return Problem(422, "invalid-policy", "The policy is not valid", errors[0]["detail"], errors)


def _same_id(read: Any, id: str) -> list[dict[str, str]]:
    if read.id is not None and read.id != id:
        return [invalid("/id", "mismatch", f"The address says {id!r}")]
    return []


def _meaning(read: Any) -> list[dict[str, str]]:
    """Mistakes that types don't show."""
    if isinstance(read, QuietBody):
        errors = []
        for i, w in enumerate(read.windows):
            errors += _time(f"/windows/{i}/from", w.from_, "24:00") + _time(f"/windows/{i}/to", w.to, "")
        if not errors and _covers_week(read):
            errors = [invalid("/windows", "always_quiet", "The windows cover the whole week: nothing could ever leave")]
        return errors
    if isinstance(read, BudgetBody):
        errors = _length("/per", read.per, positive=True)
        if read.min_gap is not None:
            errors += _length("/min_gap", read.min_gap, positive=False)
        return errors
    return [
        e
        for name in ("triggered", "bulk")
        for e in _length(f"/window/{name}", getattr(read.window, name), positive=False)
    ]


def _time(pointer: str, text: str, refused: str) -> list[dict[str, str]]:
    try:
        minutes(text)
    except ValueError as e:
        return [invalid(pointer, "invalid_time", str(e))]
    return [invalid(pointer, "invalid_time", "A window begins before 24:00")] if text == refused else []


def _length(pointer: str, text: str, positive: bool) -> list[dict[str, str]]:
    try:
        ms = parse_duration(text)
    except ValueError as e:
        return [invalid(pointer, "invalid_duration", str(e))]
    return [invalid(pointer, "invalid_duration", "Must be longer than nothing")] if positive and not ms else []


def _covers_week(read: QuietBody) -> bool:
    windows = Windows(_windows(read))
    return windows.at(0, "UTC") == (True, None)


def _windows(read: QuietBody) -> tuple[Window, ...]:
    return tuple(
        Window(frozenset(DAYS.index(d) for d in w.days), minutes(w.from_), minutes(w.to)) for w in read.windows
    )


class Quiet(msgspec.Struct, frozen=True):
    """A quiet_hours policy ready for use. `ref` is id@version, None for a member's own."""

    ref: str | None
    channels: frozenset[str]
    windows: Windows
    chain: tuple[str, ...]

    def covers(self, channel: str) -> bool:
        return ALL in self.channels or channel in self.channels


class Budget(msgspec.Struct, frozen=True):
    """A budget ready for use; lengths in ms."""

    ref: str
    channels: frozenset[str]
    topics: frozenset[str]
    limit: float
    per: int
    weights: dict[str, float]
    min_gap: int
    skips: bool

    def covers(self, channel: str, topic: str) -> bool:
        return (ALL in self.channels or channel in self.channels) and (ALL in self.topics or topic in self.topics)

    def weight(self, channel: str) -> float:
        return self.weights.get(channel, 1)


class Policies(msgspec.Struct, frozen=True):
    """A workspace's policies ready for use, in order of their ids."""

    quiet: tuple[Quiet, ...] = ()
    budgets: tuple[Budget, ...] = ()

    @property
    def longest(self) -> int:
        """How far back (ms) the ledger is asked."""
        return max(max(b.per, b.min_gap) for b in self.budgets) if self.budgets else 0


NO_POLICIES = Policies()


def compile_all(active: PolicySet | None) -> Policies:
    """What the active versions say; conflict policies decide nothing yet."""
    if active is None:
        return NO_POLICIES
    live = [d for _, d in sorted(active.policies.items()) if not d.deleted]
    quiet = [_quiet(d) for d in live if d.kind == "quiet_hours"]
    return Policies(tuple(q for q in quiet if q is not None), tuple(_budget(d) for d in live if d.kind == "budget"))


def _quiet(d: Definition) -> Quiet | None:
    body = msgspec.json.decode(d.body, type=QuietBody)
    if "marketing" not in body.classes:
        return None
    return Quiet(f"{d.id}@{d.version}", frozenset(body.channels), Windows(_windows(body)), tuple(body.timezone))


def _budget(d: Definition) -> Budget:
    body = msgspec.json.decode(d.body, type=BudgetBody)
    gap = parse_duration(body.min_gap) if body.min_gap else 0
    return Budget(
        ref=f"{d.id}@{d.version}",
        channels=frozenset(body.channels),
        topics=frozenset(body.topics),
        limit=plain_number(body.limit),
        per=parse_duration(body.per),
        weights={channel: plain_number(w) for channel, w in body.weights.items()},
        min_gap=gap,
        skips=body.on_exceed == "skip",
    )


def plain_number(number: float) -> float:
    """A whole number as an int, so that it reads 3 and not 3.0."""
    return int(number) if float(number).is_integer() else number
