"""The contract between the stream loop and a service's decisions.

A `Stage` says what it reads, which state keys an input touches and what follows from it. It is
pure: no I/O, no clock, no randomness; time comes in as `now`, ids follow from the cause. The loop
(`rondo_common.streams`) does everything else.

State keys are text. Their prefix up to the first ":" names the kind and selects the Struct type
(`Stage.types`). Keys of kind "g" are the partition's globals (definitions, run heads, stop
flags): few, kept in memory by the loop, readable for every input without being listed in `keys`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from rondo_common.outcomes import Outcome


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record. `time` is its timestamp in ms; headers as a plain dict of text. A tombstone has
    an empty value."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    time: int
    headers: dict[str, str] = {}

    @property
    def cause(self) -> str:
        """Names this record for derived ids: its CloudEvents id, else its place in the log."""
        return self.headers.get("ce_id") or f"{self.topic}:{self.partition}:{self.offset}"

    def said(self, what: str) -> str:
        """The last word of a ce_type `<what>.<word>` (from the door `rondo.<what>.<word>`), "" where the
        header says nothing of the kind: a stage may drop what doesn't matter to it without decoding it."""
        head, _, word = self.headers.get("ce_type", "").rpartition(".")
        return word if head == what or head == f"rondo.{what}" else ""


class Timer(msgspec.Struct, frozen=True):
    """A timer that came due. `now` of its handling is `due`."""

    owner: str
    name: str
    due: int
    payload: bytes = b""

    @property
    def cause(self) -> str:
        return f"timer:{self.owner}:{self.name}:{self.due}"


class SweepItem(msgspec.Struct, frozen=True):
    """One state key met by a sweep. `now` of its handling is the time the sweep was started."""

    sweep: str
    payload: bytes
    key: str

    @property
    def cause(self) -> str:
        return f"sweep:{self.sweep}:{self.key}"


class SweepEnd(msgspec.Struct, frozen=True):
    """A sweep has met all its keys."""

    sweep: str
    payload: bytes

    @property
    def cause(self) -> str:
        return f"sweep:{self.sweep}:end"


class Result(msgspec.Struct, frozen=True):
    """The effector's answer to a `Perform`. `now` of its handling is the clock when it came."""

    id: str
    answer: Any

    @property
    def cause(self) -> str:
        return f"result:{self.id}"


class Results(msgspec.Struct, frozen=True):
    """Answers that came together, to a stage that takes them so (`together`): no two of them touch the same
    state. When handling it raises, they come once more, each by itself."""

    results: Sequence[Result]

    @property
    def cause(self) -> str:
        return f"results:{self.results[0].id}"


class Assigned(msgspec.Struct, frozen=True):
    """The partition was just restored and nothing else has been handled since. Comes once per
    assignment, before any other input of the partition. `now` is the clock."""

    partition: int

    @property
    def cause(self) -> str:
        return f"assigned:{self.partition}"


Input = Record | Timer | SweepItem | SweepEnd | Result | Results | Assigned


class Touches(msgspec.Struct, frozen=True, gc=False):
    """What an input touches: `owner`, whose due timers fire first, and the state keys to read."""

    owner: str | None = None
    keys: Collection[str] = ()


class States(Protocol):
    """The states of one partition as an input sees them: the stored ones under the changes that
    earlier inputs of the batch made."""

    partition: int
    partitions: int

    def get(self, key: str) -> Any:
        """The Struct stored under `key`, None when absent. KeyError for a key that `touches` did
        not name and that is no global."""
        ...

    def globals(self, prefix: str = "g:") -> Iterator[tuple[str, Any]]:
        """Every global state whose key starts with `prefix`, in key order."""
        ...


class Stage(Protocol):
    """What a service gives the loop. One Stage object per process; it keeps no state of its own
    except caches that follow from what it is given (compiled rules by version, say).

    A stage may also have these attributes:
    `effect_lanes`: indexes of the lanes whose records make `Perform` tasks; they stop while the
    effector is full. Default: all lanes but the first.
    `gather_s`: least seconds between two of its transactions while records come, for a stage whose
    readers are in no hurry. Default: `rondo_common.streams.pace.LEAST_S`.
    `first_alone`: whether records of the first lane go in a batch of their own, so that what they say takes effect
    before anything else is prepared. Default: no.
    `unhurried`: topics (a frozenset) whose records may wait a fifth of a second for more while there is nothing
    else to do: reports that nobody is waiting for. Default: none.
    `unhurried_s`: how long they wait at most, instead; any other record, and a batch full of them, ends it.
    `indexed`: kinds of states that sweeps and `StateView.scan` need (a frozenset); others save the
    memory of the index. Default: all.
    `together`: whether it takes the effector's answers as `Results`. Default: one by one, as `Result`.
    `dead_letter_topic`: whose `.dlq` takes timers, sweep items and answers that fail. Default: the
    first topic of the lowest lane."""

    name: str
    """Consumer group is `rondo.<name>`, Redis tag `{<name>:<partition>}`, transactional ids
    `<name>.<slot>`."""

    state_topic: str
    """Compacted topic of this stage's states. `state_offset` shifts the partition number where
    several stages share one topic (delivery: channel index * partitions)."""

    state_offset: int

    lanes: Sequence[Sequence[str]]
    """Input topics by priority, first highest; lower lanes pause while a higher one has records."""

    lane_limit: dict[int, int]
    """Most records of one lane in one batch, by lane index; absent: the loop's batch size."""

    wall_clock: bool
    """False: `now` of a record is its timestamp, of a timer its due time, so any replay decides the
    same. True (the gate and delivery only): `now` is the clock of the batch; the stage writes it
    into what it emits."""

    types: dict[str, type]
    """Struct type of a state by prefix of its key: the first two parts ("g:def") when listed, else the
    first ("m")."""

    def read(self, record: Record) -> Any:
        """Decode a record once. What it returns is passed to `touches` and `handle`; a `Drop` (known from
        the headers, say) ends it there: neither is called. Raises msgspec.DecodeError or ValueError for
        what can't be read: the loop dead-letters it."""
        ...

    def touches(self, item: Input, message: Any) -> Touches:
        """Owner and state keys of an input. `message` is `read`'s answer, None for non-records."""
        ...

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        """Decide. An exception is dead-lettered like DeadLetter("handler_error")."""
        ...
