"""What a row of a file means: the mapping from columns to a Segment call. Pure.

    {"type": "track", "event": "Order Completed", "userId": "customer",
     "timestamp": {"column": "date", "format": "%Y%m%d"},
     "properties": {"total": {"column": "dollars", "as": "number"}, "source": {"value": "import"}}}

A field is a column's name, or {"column", "as", "format"}, or {"value"}. `event` and `name` that are no
column of the file stand for themselves. `as` is text, number, integer, boolean or json. A `format` (of
strptime) is for times that are not RFC 3339; without a zone in it they are UTC. Empty cells are left out.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from rondo_common.problems import Problem, invalid
from services.ingestion.model import TYPES, Code, Refused

IDS = ("userId", "anonymousId", "previousId", "groupId", "messageId")
_TRUE = frozenset({"true", "1", "yes", "y", "t"})
_FALSE = frozenset({"false", "0", "no", "n", "f"})


class Source(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a field's value comes from."""

    column: str | None = None
    as_: Literal["text", "number", "integer", "boolean", "json"] = msgspec.field(name="as", default="text")
    format: str | None = None
    value: Any = None


Field = str | Source


class Mapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """See the module."""

    type: str = "identify"
    userId: Field | None = None
    anonymousId: Field | None = None
    previousId: Field | None = None
    groupId: Field | None = None
    messageId: Field | None = None
    timestamp: Field | None = None
    event: Field | None = None
    name: Field | None = None
    properties: dict[str, Field] = {}
    traits: dict[str, Field] = {}
    context: dict[str, Field] = {}
    delimiter: str = ","
    historical: bool = True
    """Whether the events start campaigns (false) or not (true)."""


Getter = tuple[str, int | None, Source]
"""(JSON pointer, column number or None for a constant, source)."""


def compiled(mapping: Mapping, columns: list[str]) -> "Rows":
    """The mapping against a file's header. Problem 422 with pointers for what does not fit."""
    errors: list[dict[str, str]] = []
    if mapping.type not in TYPES:
        errors.append(invalid("/mapping/type", "unknown_type", "one of " + ", ".join(sorted(TYPES))))
    if len(mapping.delimiter) != 1:
        errors.append(invalid("/mapping/delimiter", "wrong_type", "one character"))
    if mapping.userId is None and mapping.anonymousId is None:
        errors.append(invalid("/mapping/userId", "required", "userId or anonymousId is needed"))
    if len(set(columns)) != len(columns):
        errors.append(invalid("/file", "repeated_column", "the first row names a column twice"))
    places = {name: i for i, name in enumerate(columns)}
    getters: list[Getter] = []

    def add(pointer: str, field: Field | None, may_stand: bool = False) -> None:
        if field is None:
            return
        source = field if isinstance(field, Source) else Source(column=field)
        if may_stand and isinstance(field, str) and field not in places:
            source = Source(value=field)
        if source.column is None:
            if source.value is None:
                errors.append(invalid(f"/mapping{pointer}", "required", "a column or a value"))
            getters.append((pointer, None, source))
        elif source.column not in places:
            errors.append(invalid(f"/mapping{pointer}", "unknown_column", f"the file has no column {source.column!r}"))
        else:
            getters.append((pointer, places[source.column], source))

    for name in (*IDS, "timestamp"):
        add(f"/{name}", getattr(mapping, name))
    for name in ("event", "name"):
        add(f"/{name}", getattr(mapping, name), may_stand=True)
    for group in ("properties", "traits", "context"):
        for name, field in getattr(mapping, group).items():
            add(f"/{group}/{name.replace('~', '~0').replace('/', '~1')}", field)
    if errors:
        raise Problem(422, "invalid-mapping", "The mapping is not valid", errors[0]["detail"], errors)
    return Rows(mapping, getters, len(columns))


class Rows:
    """Turns rows into calls."""

    def __init__(self, mapping: Mapping, getters: list[Getter], width: int):
        self._mapping = mapping
        self._getters = getters
        self._width = width

    def call(self, row: list[str], message_id: str) -> bytes:
        """A row as the JSON of a Segment call. Refused when the row has another number of cells than the
        header, or a cell is not what the mapping says."""
        if len(row) != self._width:
            raise Refused(Code.WRONG_TYPE, "", f"{len(row)} cells where the first row has {self._width}")
        call: dict[str, Any] = {"type": self._mapping.type, "messageId": message_id}
        for pointer, place, source in self._getters:
            value = source.value if place is None else _value(row[place], source, pointer)
            if value is None:
                continue
            group, _, name = pointer[1:].partition("/")
            if name:
                call.setdefault(group, {})[name.replace("~1", "/").replace("~0", "~")] = value
            else:
                call[group] = value
        return msgspec.json.encode(call)


def _value(cell: str, source: Source, pointer: str) -> Any:
    text = cell.strip()
    if not text:
        return None
    try:
        if source.format is not None:
            at = datetime.strptime(text, source.format)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
        if source.as_ == "text":
            return text
        if source.as_ == "integer":
            return int(text)
        if source.as_ == "number":
            number = float(text)
            if number != number or number in (float("inf"), float("-inf")):
                raise ValueError("not a finite number")
            return number
        if source.as_ == "json":
            return msgspec.json.decode(text)
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise Refused(Code.WRONG_TYPE, pointer, f"column {source.column}: {e}") from None
    lower = text.lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise Refused(Code.WRONG_TYPE, pointer, f"column {source.column}: neither true nor false")
