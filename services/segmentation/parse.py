"""Reads a rule from JSON values into a tree, or says what is wrong with it and where. Pure.

    rule, mistakes = parse(body["rule"], "/rule")

`mistakes` lists every mistake found, each with its JSON pointer; the rule is None when there is one.
What the language has but this version doesn't serve yet is a mistake of code `not_implemented`.
"""

from collections.abc import Callable
from typing import Any

from rondo_common.topics import CHANNELS
from services.segmentation import rules as r
from services.segmentation.parse_values import MOST_TEXT, Mistake, Mistakes, child, is_number, one_of
from services.segmentation.parse_values import test as parse_test
from services.segmentation.parse_values import window as parse_window

MOST_DEPTH = 12
"""Levels of and, or, not in one rule."""
MOST_PARTS = 300
"""Nodes of one rule."""
MOST_CONDITIONS = 20
"""Conditions of one event's `where`."""

REACHABLE = ("email", "sms", "messaging")
"""Channels of which an address is a trait; social has none yet."""

__all__ = ["Mistake", "parse"]


def parse(value: Any, pointer: str = "") -> tuple[r.Node | None, list[Mistake]]:
    """The rule in `value`, which lies at `pointer` in what was sent. Pointers in the tree itself begin
    at the rule, those in mistakes at what was sent."""
    parser = _Parser(Mistakes(pointer))
    rule = parser.rule(value, "", 1)
    found = parser.mistakes.found
    return (None, found) if found or rule is None else (rule, [])


class _Parser:
    def __init__(self, mistakes: Mistakes):
        self.mistakes = mistakes
        self._parts = 0
        self._forms: dict[str, Callable[[Any, str, int], r.Node | None]] = {
            "and": self._and,
            "or": self._or,
            "not": self._not,
            "trait": self._leaf(self._trait, ("field", "operator", "value"), ("field", "operator")),
            "event": self._leaf(
                self._event,
                ("name", "where", "measure", "property", "operator", "value", "within", "between"),
                ("name",),
            ),
            "message": self._leaf(
                self._message,
                ("campaign", "action", "actor", "measure", "operator", "value", "within", "between"),
                ("action",),
            ),
            "consent": self._leaf(self._consent, ("channel", "topic", "state"), ("channel", "topic", "state")),
            "reachable": self._leaf(self._reachable, ("channel",), ("channel",)),
            "segment": self._leaf(self._segment, ("id",), ("id",)),
            "bucket": self._leaf(self._bucket, ("seed", "from", "to"), ("seed", "from", "to")),
            "sequence": self._sequence,
        }

    def rule(self, value: Any, at: str, depth: int) -> r.Node | None:
        m = self.mistakes
        if not isinstance(value, dict):
            return m.add(at, "wrong_type", "an object with one of " + ", ".join(self._forms), "A rule is an object")
        if len(value) != 1:
            return m.add(
                at,
                "one_key",
                "exactly one of " + ", ".join(self._forms),
                f"A rule has exactly one key, this one has {len(value)}",
            )
        self._parts += 1
        if self._parts > MOST_PARTS:
            if self._parts == MOST_PARTS + 1:
                m.add(at, "too_large", f"at most {MOST_PARTS} parts", "The rule is too large")
            return None
        if depth > MOST_DEPTH:
            return m.add(at, "too_deep", f"at most {MOST_DEPTH} levels", "The rule is nested too deeply")
        ((name, inner),) = value.items()
        form = self._forms.get(name)
        if form is None:
            return m.add(child(at, name), "unknown_rule", one_of(self._forms), f"Unknown rule '{name}'")
        return form(inner, child(at, name), depth)

    # and, or, not

    def _list(self, value: Any, at: str, depth: int) -> tuple[r.Node, ...] | None:
        if not isinstance(value, list):
            return self.mistakes.add(at, "wrong_type", "a list of rules")
        if not value:
            return self.mistakes.add(at, "empty", "at least one rule")
        parts = [self.rule(v, f"{at}/{i}", depth + 1) for i, v in enumerate(value[: MOST_PARTS + 1])]
        good = tuple(p for p in parts if p is not None)
        return good if len(good) == len(value) else None

    def _and(self, value: Any, at: str, depth: int) -> r.Node | None:
        parts = self._list(value, at, depth)
        return r.And(at.removesuffix("/and"), parts) if parts else None

    def _or(self, value: Any, at: str, depth: int) -> r.Node | None:
        parts = self._list(value, at, depth)
        return r.Or(at.removesuffix("/or"), parts) if parts else None

    def _not(self, value: Any, at: str, depth: int) -> r.Node | None:
        part = self.rule(value, at, depth + 1)
        return r.Not(at.removesuffix("/not"), part) if part is not None else None

    # leaves

    def _leaf(
        self,
        build: Callable[[dict[str, Any], str, str], r.Node | None],
        fields: tuple[str, ...],
        required: tuple[str, ...],
    ) -> Callable[[Any, str, int], r.Node | None]:
        def form(value: Any, at: str, depth: int) -> r.Node | None:
            m = self.mistakes
            if not isinstance(value, dict):
                return m.add(at, "wrong_type", "an object with " + ", ".join(fields))
            for name in value:
                if name not in fields:
                    m.add(child(at, name), "unknown_field", one_of(fields), f"Unknown field '{name}'")
            for name in required:
                if name not in value:
                    m.add(child(at, name), "required", f"{name} is required", f"Missing field '{name}'")
            return build(value, at, at.rpartition("/")[0])

        return form

    def _text(self, leaf: dict[str, Any], name: str, at: str, most: int = MOST_TEXT) -> str | None:
        value = leaf.get(name)
        if name not in leaf:
            return None
        if not isinstance(value, str) or not value:
            return self.mistakes.add(f"{at}/{name}", "wrong_type", "a text that is not empty")
        if len(value) > most:
            return self.mistakes.add(f"{at}/{name}", "too_long", f"at most {most} characters")
        return value

    def _choice(self, leaf: dict[str, Any], name: str, at: str, choices: tuple[str, ...]) -> str | None:
        value = leaf.get(name)
        if name in leaf and value not in choices:
            return self.mistakes.add(
                f"{at}/{name}", f"unknown_{name}", one_of(choices), f"Unknown {name} {_short(value)}"
            )
        return value

    def _trait(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        field = self._text(leaf, "field", at)
        test = parse_test(leaf, at, r.TRAIT_OPERATORS, self.mistakes) if "operator" in leaf else None
        return r.Trait(pointer, field, test) if field and test else None

    def _measured(
        self, leaf: dict[str, Any], at: str, measures: tuple[str, ...]
    ) -> tuple[str, r.Test | None, r.Window | None]:
        """Measure, its test and the window of an event or message leaf. Without measure, operator and
        value it asks for one occurrence at least."""
        measure = self._choice(leaf, "measure", at, measures) if "measure" in leaf else "count"
        window = parse_window(leaf, at, self.mistakes)
        if not any(name in leaf for name in ("measure", "operator", "value")):
            return "count", r.Test("gte", 1), window
        if "operator" not in leaf:
            self.mistakes.add(f"{at}/operator", "required", "operator is required", "Missing field 'operator'")
            return measure or "count", None, window
        if measure in ("first", "last"):
            allowed = (*r.TIME_OPERATORS, *r.PRESENCE_OPERATORS)
        elif measure in ("min", "max", "distinct"):
            allowed = (*r.NUMBER_OPERATORS, *r.PRESENCE_OPERATORS)
        else:
            allowed = r.NUMBER_OPERATORS
        test = parse_test(leaf, at, allowed, self.mistakes, numbers=measure not in ("first", "last"))
        return measure or "count", test, window

    def _event(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        before = len(self.mistakes.found)
        name = self._text(leaf, "name", at)
        where = self._where(leaf.get("where", []), f"{at}/where")
        measure, test, window = self._measured(leaf, at, r.MEASURES)
        property = self._text(leaf, "property", at)
        if measure in ("sum", "min", "max", "distinct"):
            if "property" not in leaf:
                self.mistakes.add(f"{at}/property", "required", f"{measure} needs a property")
        elif "property" in leaf:
            self.mistakes.add(f"{at}/property", "not_allowed", f"{measure} takes no property")
        if len(self.mistakes.found) > before or not (name and test and window):
            return None
        return r.Event(pointer, name, where, measure, property, test, window)

    def _where(self, value: Any, at: str) -> tuple[r.Condition, ...]:
        m = self.mistakes
        if not isinstance(value, list):
            m.add(at, "wrong_type", "a list of conditions")
            return ()
        if len(value) > MOST_CONDITIONS:
            m.add(at, "too_large", f"at most {MOST_CONDITIONS} conditions")
            return ()
        conditions = []
        for i, one in enumerate(value):
            here = f"{at}/{i}"
            if not isinstance(one, dict):
                m.add(here, "wrong_type", "an object with property, operator, value")
                continue
            for name in one:
                if name not in ("property", "operator", "value"):
                    m.add(
                        child(here, name),
                        "unknown_field",
                        "one of property, operator, value",
                        f"Unknown field '{name}'",
                    )
            for name in ("property", "operator"):
                if name not in one:
                    m.add(f"{here}/{name}", "required", f"{name} is required", f"Missing field '{name}'")
            property = self._text(one, "property", here)
            test = parse_test(one, here, r.TRAIT_OPERATORS, m) if "operator" in one else None
            if property and test:
                conditions.append(r.Condition(property, test))
        return tuple(conditions)

    def _message(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        before = len(self.mistakes.found)
        campaign = self._text(leaf, "campaign", at)
        action = self._choice(leaf, "action", at, r.ACTIONS)
        actor = self._choice(leaf, "actor", at, r.ACTORS)
        if actor and action not in ("opened", "clicked", None):
            self.mistakes.add(f"{at}/actor", "not_allowed", "only opened and clicked have an actor")
        measure, test, window = self._measured(leaf, at, r.MESSAGE_MEASURES)
        if len(self.mistakes.found) > before or not (action and test and window):
            return None
        return r.Message(pointer, campaign, action, actor, measure, test, window)

    def _consent(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        channel = self._choice(leaf, "channel", at, CHANNELS)
        topic = self._text(leaf, "topic", at)
        state = self._choice(leaf, "state", at, ("granted", "denied"))
        return r.Consent(pointer, channel, topic, state) if channel and topic and state else None

    def _reachable(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        channel = self._choice(leaf, "channel", at, CHANNELS)
        if channel == "social":
            return self.mistakes.add(f"{at}/channel", "not_implemented", "reachable on social comes later")
        return r.Reachable(pointer, channel) if channel else None

    def _segment(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        id = self._text(leaf, "id", at, 80)
        return r.Segment(pointer, id) if id else None

    def _bucket(self, leaf: dict[str, Any], at: str, pointer: str) -> r.Node | None:
        m = self.mistakes
        before = len(m.found)
        seed = self._text(leaf, "seed", at)
        ends = []
        for name in ("from", "to"):
            value = leaf.get(name)
            if name in leaf and not (is_number(value) and 0 <= value <= 1):
                m.add(f"{at}/{name}", "out_of_range", "a number from 0 to 1")
            ends.append(value)
        if len(m.found) > before or seed is None or None in ends:
            return None
        if ends[0] > ends[1]:
            return m.add(f"{at}/to", "out_of_range", "not below from")
        return r.Bucket(pointer, seed, float(ends[0]), float(ends[1]))

    def _sequence(self, value: Any, at: str, depth: int) -> r.Node | None:
        return self.mistakes.add(at, "not_implemented", "sequence rules come later", "Sequence rules come later")


def _short(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 60 else text[:60] + "...'"
