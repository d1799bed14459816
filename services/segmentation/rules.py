"""A segment rule as a tree of values (WIRE 4). Made by `parse`, compiled by `evaluate`. Pure."""

from typing import Any

import msgspec

TRAIT_OPERATORS = (
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "exists",
    "not_exists",
    "before",
    "after",
    "within_last",
)
NUMBER_OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in")
PRESENCE_OPERATORS = ("exists", "not_exists")
TIME_OPERATORS = ("before", "after", "within_last")
MEASURES = ("count", "sum", "min", "max", "distinct", "first", "last")
MESSAGE_MEASURES = ("count", "first", "last")
ACTIONS = ("sent", "delivered", "bounced", "opened", "clicked")
ACTORS = ("human", "machine")


class Node(msgspec.Struct, frozen=True):
    """Any part of a rule; `pointer` is its JSON pointer from the rule's root ("" = the root)."""

    pointer: str


class And(Node, frozen=True):
    parts: tuple[Node, ...]


class Or(Node, frozen=True):
    parts: tuple[Node, ...]


class Not(Node, frozen=True):
    part: Node


class Instant(msgspec.Struct, frozen=True):
    """A point in time to compare with: absolute (`at`, ms), or `ago` ms before the evaluation."""

    at: int | None = None
    ago: int | None = None


class Test(msgspec.Struct, frozen=True):
    """An operator with its value: text, number, bool or a tuple of them; an `Instant` for before and
    after; ms for within_last; None for exists and not_exists."""

    operator: str
    value: Any = None


class Condition(msgspec.Struct, frozen=True):
    """One of an event's `where`: all must hold."""

    property: str
    test: Test


class Window(msgspec.Struct, frozen=True):
    """Which events count: `within` ms before the evaluation, or `start` <= t < `end`, or all of them."""

    within: int | None = None
    start: int | None = None
    end: int | None = None


class Trait(Node, frozen=True):
    field: str
    test: Test


class Event(Node, frozen=True):
    name: str
    where: tuple[Condition, ...]
    measure: str
    property: str | None
    test: Test
    window: Window


class Message(Node, frozen=True):
    campaign: str | None
    action: str
    actor: str | None
    measure: str
    test: Test
    window: Window


class Consent(Node, frozen=True):
    channel: str
    topic: str
    state: str


class Reachable(Node, frozen=True):
    channel: str


class Segment(Node, frozen=True):
    id: str


class Bucket(Node, frozen=True):
    seed: str
    start: float
    end: float


LEAVES = (Trait, Event, Message, Consent, Reachable, Segment, Bucket)


def leaves(rule: Node) -> list[Node]:
    """The leaves of a rule, in the order they are written."""
    if isinstance(rule, And | Or):
        return [leaf for part in rule.parts for leaf in leaves(part)]
    if isinstance(rule, Not):
        return leaves(rule.part)
    return [rule]


def references(rule: Node) -> list[Segment]:
    """The nested segments a rule names."""
    return [leaf for leaf in leaves(rule) if isinstance(leaf, Segment)]
