"""The leaves of a rule, compiled: does it hold for a member at an instant, and until when. Pure.

Each leaf answers `test(facts) -> (holds, until)`: `until` is the first instant after `facts.at` at
which the answer changes if nothing more is heard of the member (NEVER: it doesn't), `inputs(facts)`
what it looked at, and `points(member)` every instant at which its answer may change.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from rondo_common.clock import iso
from services.segmentation import rules as r
from services.segmentation import values as v
from services.segmentation.measures import STEPS, Measured, bounds, measure, selector
from services.segmentation.model import NEVER, Member, Series

Answer = tuple[bool, int]
Facet = tuple[str, str]
"""A kind of fact a rule looks at: ("event", name), ("trait", field), ("consent", channel),
("message", action), ("suppression", channel)."""
AddressId = Callable[[str, str], str]
"""(kind of identifier, value) -> its id in the workspace."""

ADDRESS_TRAITS = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}
"""Channel to the trait that holds its address."""

_ADDRESS = {
    "email": re.compile(r"[^@\s]+@[^@\s]+"),
    "sms": re.compile(r"\+[\d\s().-]{6,38}"),
    "messaging": re.compile(r"@?[A-Za-z0-9_-]{1,64}"),
}
"""The shape of an address; anything else under its trait is none (profiles checks it in full)."""

_EMPTY = Series()


class Facts:
    """A member at an instant. `memo` keeps answers of nested segments within one evaluation."""

    __slots__ = ("at", "member", "member_id", "memo")

    def __init__(self, member: Member, member_id: str, at: int):
        self.member = member
        self.member_id = member_id
        self.at = at
        self.memo: dict[str, Answer] = {}


class Leaf:
    """A compiled leaf. `facets` are the kinds of fact that may change its answer."""

    pointer: str
    facets: frozenset[Facet] = frozenset()

    def test(self, facts: Facts) -> Answer:
        raise NotImplementedError

    def inputs(self, facts: Facts) -> dict[str, Any]:
        raise NotImplementedError

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        return ()


def first_change(holds: Callable[[int], bool], at: int, points: Iterable[int]) -> Answer:
    """The answer at `at` and the first of `points` after it where it is another one."""
    truth = holds(at)
    for n, t in enumerate(sorted({p for p in points if p > at})):
        if n >= STEPS or holds(t) != truth:
            return truth, t
    return truth, NEVER


def at_time(history: list[tuple[int, Any]], at: int) -> Any:
    """The value of a history in force at `at`; None before its first entry."""
    if history[-1][0] <= at:
        return history[-1][1]
    found = None
    for t, value in history:
        if t > at:
            break
        found = value
    return found


class TraitLeaf(Leaf):
    def __init__(self, node: r.Trait):
        self.pointer = node.pointer
        self._field = node.field
        self._head, *self._path = node.field.split(".")
        self.facets = frozenset({("trait", node.field), ("trait", self._head)})
        self._spec = node.test
        self._relative = v.is_relative(node.test)
        self._timed = v.timed(node.test) if self._relative else None
        self._passes = None if self._relative else v.passes(node.test)

    def _history(self, member: Member) -> list[tuple[int, Any]] | None:
        history = member.traits.get(self._field)
        if history is None and self._path:
            outer = member.traits.get(self._head)
            if outer is not None:
                history = [(t, _inner(value, self._path)) for t, value in outer]
        return history

    def _one(self, value: Any, at: int) -> Answer:
        if self._passes is not None:
            return self._passes(value), NEVER
        t = v.instant_of(value)
        return (False, NEVER) if t is None else self._timed(t, at)  # type: ignore[misc]

    def test(self, facts: Facts) -> Answer:
        history = self._history(facts.member)
        at = facts.at
        if not history:
            return self._one(None, at)
        if history[-1][0] <= at:
            return self._one(history[-1][1], at)
        truth, until = self._one(at_time(history, at), at)
        for t, value in history:
            if t <= at:
                continue
            if until < t:
                break
            then, until = self._one(value, t)
            if then != truth:
                return truth, t
        return truth, until

    def inputs(self, facts: Facts) -> dict[str, Any]:
        history = self._history(facts.member)
        return {"value": at_time(history, facts.at) if history else None}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        for t, value in self._history(member) or ():
            yield t
            if self._relative and (instant := v.instant_of(value)) is not None:
                yield from v.points_of(self._spec, instant)


def _inner(value: Any, path: list[str]) -> Any:
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value


class EventLeaf(Leaf):
    """A measure of events, or of messages (an event per message and action)."""

    def __init__(self, node: r.Event | r.Message):
        self.pointer = node.pointer
        self._measured = Measured(node.measure, node.test, node.window)
        self._test = node.test
        self._window = node.window
        if isinstance(node, r.Event):
            self._messages, self._name, property = False, node.name, node.property
            self.facets = frozenset({("event", node.name)})
            conditions = [(c.property, c.test) for c in node.where]
        else:
            self._messages, self._name, property = True, node.action, None
            self.facets = frozenset({("message", node.action)})
            wanted = (("campaign", node.campaign), ("actor", node.actor))
            conditions = [(name, r.Test("eq", value)) for name, value in wanted if value is not None]
        self._moving = [(name, test) for name, test in conditions if v.is_relative(test)]
        static = [(name, v.passes(test)) for name, test in conditions if not v.is_relative(test)]
        numeric = node.measure in ("sum", "min", "max")
        self._select = selector(static, property, numeric)
        self._select_at = lambda at: selector(
            static + [(name, _as_of(test, at)) for name, test in self._moving], property, numeric
        )

    def _series(self, member: Member) -> Series:
        return (member.messages if self._messages else member.events).get(self._name, _EMPTY)

    def test(self, facts: Facts) -> Answer:
        series = self._series(facts.member)
        if not self._moving:
            times, found = self._select(series)
            return self._measured.test(times, found, facts.at)
        return first_change(lambda at: self._holds(series, at), facts.at, self._points(series))

    def _holds(self, series: Series, at: int) -> bool:
        times, found = self._select_at(at)(series)
        return self._measured.truth(self._measured.value(times, found, at), at)[0]

    def inputs(self, facts: Facts) -> dict[str, Any]:
        times, found = self._select_at(facts.at)(self._series(facts.member))
        name = self._measured.name
        lo, hi, _ = bounds(times, self._window, facts.at)
        value = measure(name, times, found, lo, hi)
        return {name: iso(value) if name in ("first", "last") and value is not None else value}

    def _points(self, series: Series) -> Iterable[int]:
        for i, t in enumerate(series.at):
            yield t
            if self._window.within is not None:
                yield t + self._window.within
            if v.is_relative(self._test):
                yield from v.points_of(self._test, t)
            for name, test in self._moving:
                column = series.columns.get(name)
                instant = v.instant_of(column[i]) if column else None
                if instant is not None:
                    yield from v.points_of(test, instant)

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        return self._points(self._series(member))


def _as_of(test: r.Test, at: int) -> v.Passes:
    """A relative test as a check of stored values at the instant `at`."""
    timed = v.timed(test)

    def check(value: Any) -> bool:
        t = v.instant_of(value)
        return t is not None and timed(t, at)[0]

    return check


class ConsentLeaf(Leaf):
    """The verdict of WIRE 2: a denied "*" wins; else the topic's entry; else the "*" entry; else denied."""

    def __init__(self, node: r.Consent):
        self.pointer = node.pointer
        self.facets = frozenset({("consent", node.channel)})
        self._all = f"{node.channel}:*"
        self._topic = f"{node.channel}:{node.topic}"
        self._granted = node.state == "granted"

    def _verdict(self, member: Member, at: int) -> bool:
        everything, topic = member.consents.get(self._all), member.consents.get(self._topic)
        whole = at_time(everything, at) if everything else None
        if whole is False:
            return False
        own = at_time(topic, at) if topic else None
        return bool(whole if own is None else own)

    def test(self, facts: Facts) -> Answer:
        member, at = facts.member, facts.at
        later = [t for t in self.points(member, "") if t > at]
        if not later:
            return self._verdict(member, at) is self._granted, NEVER
        return first_change(lambda t: self._verdict(member, t) is self._granted, at, later)

    def inputs(self, facts: Facts) -> dict[str, Any]:
        known = {}
        for name, key in (("*", self._all), ("topic", self._topic)):
            history = facts.member.consents.get(key)
            state = at_time(history, facts.at) if history else None
            if state is not None:
                known[name] = "granted" if state else "denied"
        return {"state": "granted" if self._verdict(facts.member, facts.at) else "denied", "entries": known}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        for key in (self._all, self._topic):
            for t, _ in member.consents.get(key, ()):
                yield t


class ReachableLeaf(Leaf):
    """An address is known and not suppressed."""

    def __init__(self, node: r.Reachable, address_id: AddressId):
        self.pointer = node.pointer
        self._channel = node.channel
        self._trait = ADDRESS_TRAITS[node.channel]
        self._address_id = address_id
        self.facets = frozenset({("trait", self._trait), ("suppression", node.channel)})

    def _address(self, member: Member, at: int) -> str | None:
        history = member.traits.get(self._trait)
        value = at_time(history, at) if history else None
        if type(value) is int and self._channel == "messaging":
            value = str(value)
        text = value.strip() if type(value) is str else ""
        return text if _ADDRESS[self._channel].fullmatch(text) else None

    def _suppressed(self, member: Member, address: str, at: int) -> bool:
        return any(
            s.channel == self._channel
            and s.at <= at
            and (s.address_id is None or s.address_id == self._address_id(self._trait, address))
            for s in member.suppressions
        )

    def _holds(self, member: Member, at: int) -> bool:
        address = self._address(member, at)
        return address is not None and not self._suppressed(member, address, at)

    def test(self, facts: Facts) -> Answer:
        member, at = facts.member, facts.at
        later = [t for t in self.points(member, "") if t > at]
        if not later:
            return self._holds(member, at), NEVER
        return first_change(lambda t: self._holds(member, t), at, later)

    def inputs(self, facts: Facts) -> dict[str, Any]:
        address = self._address(facts.member, facts.at)
        suppressed = address is not None and self._suppressed(facts.member, address, facts.at)
        return {"address": address is not None, "suppressed": suppressed}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        for t, _ in member.traits.get(self._trait, ()):
            yield t
        for s in member.suppressions:
            if s.channel == self._channel:
                yield s.at


class BucketLeaf(Leaf):
    """A stable random share of all members."""

    def __init__(self, node: r.Bucket):
        self.pointer = node.pointer
        self._seed, self._start, self._end = node.seed, node.start, node.end

    def _x(self, member_id: str) -> float:
        return int(hashlib.sha256(f"{self._seed}:{member_id}".encode()).hexdigest()[:8], 16) / 2**32

    def test(self, facts: Facts) -> Answer:
        return self._start <= self._x(facts.member_id) < self._end, NEVER

    def inputs(self, facts: Facts) -> dict[str, Any]:
        return {"x": self._x(facts.member_id)}
