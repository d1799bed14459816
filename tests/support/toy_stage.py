"""A toy stage with an oracle: counts per key, and does each thing the loop offers when asked to.

Every `Ask` adds `add` to its key's count and emits the new count, so lost and doubled records show
in the state and in the output. `do` asks for more: a timer, a sweep, a global, a task, a failure.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common.outcomes import (
    CancelTimer,
    DeadLetter,
    Drop,
    Emit,
    Outcome,
    Perform,
    Save,
    SetTimer,
    StartSweep,
    StopSweep,
    Wait,
)
from rondo_common.stage import Assigned, Input, Record, Result, States, SweepEnd, SweepItem, Timer, Touches


class Ask(msgspec.Struct, omit_defaults=True):
    key: str
    add: int = 1
    do: str = ""
    at: int = 0
    id: str = ""


class Count(msgspec.Struct, frozen=True):
    n: int = 0
    log: tuple[str, ...] = ()


class Flag(msgspec.Struct, frozen=True):
    on: bool = True


class Counted(msgspec.Struct):
    key: str
    n: int
    why: str
    now: int
    id: str = ""


class ToyStage:
    """`name`, topics and lanes are free so that tests can run several side by side."""

    state_offset = 0
    types: dict[str, type] = {"c": Count, "g:flag": Flag, "g": Count}  # noqa: RUF012

    def __init__(self, name: str = "toy", log: int = 8, wall_clock: bool = False):
        self.name = name
        self.input = f"{name}.in"
        self.output = f"{name}.out"
        self.state_topic = f"{name}.state"
        self.lanes: Any = [[self.input]]
        self.lane_limit: dict[int, int] = {}
        self.wall_clock = wall_clock
        self.announce = False
        self._log = log
        self._decode = msgspec.json.Decoder(Ask).decode

    def read(self, record: Record) -> Ask:
        return self._decode(record.value)

    def touches(self, item: Input, message: Any) -> Touches:
        match item:
            case Record(key=key):
                return Touches(key, (f"c:{key}",))
            case Timer(owner=owner):
                return Touches(owner, (f"c:{owner}",))
            case SweepItem(key=key):
                return Touches(None, (key,))
            case Result(id=id):
                return Touches(None, (f"c:{id.split('/')[0]}",))
        return Touches()

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterator[Outcome]:
        match item:
            case Record(key=key):
                yield from self._asked(key, message, states, now)
            case Timer(owner=owner, name=name, payload=payload):
                yield from self._count(owner, int(payload or b"1"), states, f"timer {name}", now)
                if name.startswith("every"):
                    yield SetTimer(owner, name, item.due + int(name[5:]), payload)
            case SweepItem(key=key, payload=payload):
                yield from self._count(key[2:], int(payload), states, "sweep", now)
            case SweepEnd(sweep=sweep):
                yield Emit(self.output, sweep, Counted(sweep, 0, "sweep end", now), "toy.swept")
            case Result(id=id, answer=answer):
                yield from self._count(id.split("/")[0], answer, states, "answer", now)
            case Assigned(partition=partition) if self.announce:
                text = f"assigned {partition}"
                yield Emit(self.output, text, Counted(text, 0, "assigned", now), partition=partition)

    def _count(self, key: str, add: int, states: States, why: str, now: int, id: str = "") -> Iterator[Outcome]:
        old = states.get(f"c:{key}") or Count()
        log = (*old.log, why)[-self._log :] if self._log else ()
        yield Save(f"c:{key}", Count(old.n + add, log))
        yield Emit(self.output, key, Counted(key, old.n + add, why, now, id), "toy.counted")

    def _asked(self, key: str, ask: Ask, states: States, now: int) -> Iterator[Outcome]:
        word, _, rest = ask.do.partition(" ")
        if word == "skip":
            yield Drop("skipped")
            return
        if word == "need" and states.get(f"g:flag:{rest}") is None:
            yield Wait(f"no flag {rest}")
        yield from self._count(key, ask.add, states, word or "record", now, ask.id)
        match word:
            case "timer":
                yield SetTimer(key, rest or "t", ask.at, str(ask.add).encode())
            case "cancel":
                yield CancelTimer(key, rest or "t")
            case "sweep":
                yield StartSweep(rest or "s", "c:", b"100", slice=3)
            case "stop":
                yield StopSweep(rest or "s")
            case "flag":
                yield Save(f"g:flag:{rest}", Flag())
            case "unflag":
                yield Save(f"g:flag:{rest}", None)
            case "flags":
                names = ",".join(k for k, _ in states.globals("g:flag:"))
                yield Emit(self.output, key, Counted(names, 0, "list", now))
            case "perform":
                yield Perform(f"{key}/{rest}", rest)
            case "delete":
                yield Save(f"c:{key}", None)
            case "dead":
                yield DeadLetter("asked", "as told")
            case "raise":
                raise RuntimeError("as told")
            case "drop":
                yield Drop("asked")
            case "unencodable":
                yield Save(f"c:{key}", Count(1, (object(),)))  # type: ignore[arg-type]
            case "loop":
                yield Emit(self.input, key, Ask(key, ask.add, "loop"))
