"""Rules out of requests: read, checked against the other segments, refused as Problems."""

from typing import Any

import msgspec

from rondo_common.problems import Problem, invalid
from services.segmentation import rules as r
from services.segmentation.parse import Mistake, parse
from services.segmentation.parse_values import MOST_TEXT, Mistakes, instant
from services.segmentation.ruleset import RuleSet, cycle_through

MOST_SAMPLES = 100
SAMPLES = 10


def refuse(mistakes: list[Mistake]) -> Problem:
    """422 with every mistake; 501 when all that is wrong is that it is not served yet."""
    errors = [invalid(m.pointer, m.code, m.detail) for m in mistakes]
    if all(m.code == "not_implemented" for m in mistakes):
        return Problem(501, "not-implemented", "This rule is not served yet", mistakes[0].detail, errors)
    first = next(m for m in mistakes if m.code != "not_implemented")
    return Problem(422, "invalid-rule", "The segment rule is not valid", first.summary, errors)


def read_json(data: bytes) -> Any:
    """The value of a JSON text. Problem 400 for what is none, 422 for one that is nested too deeply."""
    try:
        return msgspec.json.decode(data)
    except RecursionError as e:
        raise refuse([Mistake("", "too_deep", "less nesting", "The document is nested too deeply")]) from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise Problem(400, "not-json", "The body is not JSON", str(e)) from e


def read_body(data: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """A request body: an object with no other fields than `fields`, and a rule."""
    body = read_json(data)
    mistakes = Mistakes("")
    if not isinstance(body, dict):
        mistakes.add("", "wrong_type", "an object with " + ", ".join(fields), "The body is not an object")
        raise refuse(mistakes.found)
    for name in body:
        if name not in fields:
            pointer = "/" + name[:100].replace("~", "~0").replace("/", "~1")
            mistakes.add(pointer, "unknown_field", "one of " + ", ".join(fields), f"Unknown field '{name[:60]}'")
    if "rule" not in body:
        mistakes.add("/rule", "required", "rule is required", "Missing field 'rule'")
    if mistakes.found:
        raise refuse(mistakes.found)
    return body


def read_definition(data: bytes, id: str) -> dict[str, Any]:
    """The body of a segment: name (its id when left out) and rule, the rule unread."""
    body = read_body(data, ("name", "rule"))
    name = body.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip() or len(name) > MOST_TEXT):
        raise refuse([Mistake("/name", "wrong_type", f"a text of 1 to {MOST_TEXT} characters")])
    return {"name": name or id, "rule": body["rule"]}


def read_rule(value: Any, pointer: str, known: RuleSet, id: str | None = None) -> r.Node:
    """The rule in `value`, for the segment `id` (None: for none). `known` are the workspace's segments."""
    rule, mistakes = parse(value, pointer)
    if rule is None:
        raise refuse(mistakes)
    found = Mistakes(pointer)
    for leaf in r.references(rule):
        if leaf.id != id and leaf.id not in known.versions:
            found.add(
                f"{leaf.pointer}/segment/id",
                "unknown_segment",
                "the id of a segment",
                f"There is no segment '{leaf.id}'",
            )
    if id is not None and (circle := cycle_through(id, rule, known.rules)):
        found.add(
            f"{circle.pointer}/segment/id",
            "cycle",
            "a segment that does not nest this one",
            "A segment can't nest itself",
        )
    if found.found:
        raise refuse(found.found)
    return rule


def read_preview(data: bytes, now: int) -> tuple[Any, int, int]:
    """Rule (unread), instant (ms) and number of samples of a preview."""
    body = read_body(data, ("rule", "at", "samples"))
    mistakes = Mistakes("")
    at: int | None = now
    if body.get("at") is not None:
        at = instant(body["at"], "/at", mistakes)
    samples = body.get("samples", SAMPLES)
    if not isinstance(samples, int) or isinstance(samples, bool) or not 0 <= samples <= MOST_SAMPLES:
        mistakes.add("/samples", "out_of_range", f"a whole number from 0 to {MOST_SAMPLES}")
    if mistakes.found or at is None:
        raise refuse(mistakes.found)
    return body["rule"], at, samples
