"""Leaves about traits, events and messages, compiled (see `leaf`). Pure."""

from collections.abc import Iterable
from typing import Any

from rondo_common.clock import iso
from services.segmentation import rules as r
from services.segmentation import values as v
from services.segmentation.leaf import Answer, Facts, Leaf, at_time, first_change
from services.segmentation.measures import Measured, bounds, measure, selector
from services.segmentation.model import NEVER, Member, Series

_EMPTY = Series()


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
