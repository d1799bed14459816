"""What the pages show: one sample of the whole installation."""

from typing import Any

import msgspec


class Place(msgspec.Struct, frozen=True):
    """One instance of a process, and where it answers. `note` is what the supervisor says of it."""

    process: str
    slot: str
    url: str
    note: str = ""


class Sample(msgspec.Struct, frozen=True):
    """An instance's answers. `state`: ready, not_ready (it says what it misses) or silent."""

    place: Place
    state: str
    detail: str = ""
    metrics: dict[str, dict[tuple[tuple[str, str], ...], float]] | None = None


class Source(msgspec.Struct, frozen=True):
    """Something the page is made of that may be missing: what it is, since when (seconds) it has not
    answered, why, and what is therefore out of date."""

    name: str
    silent_s: float | None = None
    why: str = ""
    missing: str = ""


class Service(msgspec.Struct, frozen=True):
    """A process and its instances."""

    name: str
    about: str
    instances: list[Sample]

    @property
    def state(self) -> str:
        """ready when every instance is, silent when none answers, otherwise not_ready."""
        states = {i.state for i in self.instances}
        if states == {"ready"}:
            return "ready"
        return "silent" if states == {"silent"} else "not_ready"


class Stage(msgspec.Struct, frozen=True):
    """How far a process is behind. `lag` in records, None when nobody can tell, from the broker's offsets
    (which also count marks of transactions) unless `exact`; `pace` = records it handles a second;
    `drain_s` = seconds to work off what lies there at that pace, None when it stands still; `growth` =
    records a second by which the lag grows (below 0: shrinks); `topics` = those that have any, most first."""

    name: str
    lag: int | None
    exact: bool
    pace: float | None
    drain_s: float | None
    growth: float | None
    topics: list[tuple[str, int]]

    @property
    def grows(self) -> bool:
        """The lag rises by enough to be worth a word: a tenth in ten seconds."""
        return bool(self.lag and self.growth and self.growth >= max(1.0, self.lag / 100))


class DeadTopic(msgspec.Struct, frozen=True):
    """Dead letters of one topic; `reasons` is empty where there are too many to read (`exact` is then
    False and `count` an upper bound)."""

    topic: str
    count: int
    exact: bool
    reasons: dict[str, int]


class Rate(msgspec.Struct, frozen=True):
    """Something that happens so and so often a second, now and in the last samples."""

    name: str
    now: float | None
    history: list[float]


class Snapshot(msgspec.Struct, frozen=True):
    """Everything. `now` in ms of the installation's clock, which may be a frozen test clock."""

    sequence: int
    now: int
    frozen: bool
    sources: list[Source]
    services: list[Service]
    servers: list[tuple[str, str]]
    stages: list[Stage]
    rates: list[Rate]
    runs: list[dict[str, Any]]
    conversations: list[dict[str, Any]]
    more_conversations: bool
    dead: list[DeadTopic]
    inbox: dict[str, Any] | None

    @property
    def missing(self) -> list[Source]:
        """Sources that do not answer."""
        return [s for s in self.sources if s.silent_s is not None]
