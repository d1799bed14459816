"""What a handler may want: the closed set of outcomes the stream loop acts on.

Handlers are pure. They look at an input and at states and return outcomes; the loop writes
outputs, states, timers, dead letters and the inputs' offsets in one Kafka transaction.
"""

from typing import Any

import msgspec


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Write a record to `topic`. `value` is a Struct (written as JSON) or bytes; None is a tombstone.

    `type` and `id` become the CloudEvents headers ce_type and ce_id; `subject` is the member id.
    `partition` only for records that go to a stated partition (state-like copies); otherwise
    the key decides. `time` (ms) defaults to the `now` of the cause. `tally` names what it is counted as
    in rondo_stream_tally_total, once it has committed: a few fixed words, never a value of a member.
    `verdict` becomes the header of that name (a few fixed words too), by which readers may drop a record
    without decoding it; no reader may need it.
    """

    topic: str
    key: str
    value: Any
    type: str = ""
    id: str = ""
    subject: str = ""
    partition: int | None = None
    time: int | None = None
    tally: str = ""
    verdict: str = ""


class Save(msgspec.Struct, frozen=True, gc=False):
    """Set the state `key` to `value` (a Struct), or delete it with None. States are values: never
    change one in place, make a new one."""

    key: str
    value: Any


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """(Re)set the timer `name` of `owner` to fire at `due` (ms). One timer per owner and name."""

    owner: str
    name: str
    due: int
    payload: bytes = b""


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    """Remove the timer `name` of `owner`; nothing happens when there is none."""

    owner: str
    name: str


class StartSweep(msgspec.Struct, frozen=True):
    """Walk over every state key of this partition that starts with `prefix`, in key order, a slice
    per transaction; each comes to the handler as a `SweepItem`, the end as `SweepEnd`. The cursor
    is state, so a sweep survives a kill. `slice` bounds the items of one transaction."""

    name: str
    prefix: str
    payload: bytes = b""
    slice: int = 500


class StopSweep(msgspec.Struct, frozen=True):
    """End the sweep `name` without a SweepEnd."""

    name: str


class Perform(msgspec.Struct, frozen=True, gc=False):
    """After the transaction has committed (write-ahead), hand `task` to the stage's effector. Its
    answer comes back as a `Result` with the same id. After a crash no Result comes: what was
    written ahead tells the stage on assignment."""

    id: str
    task: Any


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do, counted under `reason`."""

    reason: str


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """This input can't be processed. All its other outcomes are taken back, the input is written to
    <topic>.dlq with `reason` and `detail`. Too many at once halt the worker instead."""

    reason: str
    detail: str = ""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Not yet: something this record names is not here (a definition's version). All its other
    outcomes are taken back; this topic-partition pauses and the record is offered again."""

    reason: str


Outcome = Emit | Save | SetTimer | CancelTimer | StartSweep | StopSweep | Perform | Drop | DeadLetter | Wait
