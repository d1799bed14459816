"""JSON Schema (2020-12) in few words. Answers may hold more fields than are named here, never fewer."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
UUID: Schema = {"type": "string", "format": "uuid"}
DURATION: Schema = {"type": "string", "description": "ISO 8601 in W D H M S, such as PT30M or P7D"}
OBJECT: Schema = {"type": "object"}
ID: Schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
CHANNEL: Schema = {"enum": ["email", "sms", "messaging", "social"]}
SERVED_CHANNEL: Schema = {"enum": ["email", "sms", "messaging"]}
ID_TYPE: Schema = {"enum": ["id", "email", "phone", "anonymous_id", "member_id", "telegram_chat_id"]}


@dataclass(frozen=True)
class Operation:
    """One address and method. `answers` is status to schema, None for no body; `query` and `path` are
    parameters by name; `content_types` are those of the answers, `also` refusals that
    don't follow from the rest: 501 where a part of what may be asked is not served."""

    answers: dict[int, Schema | None]
    query: dict[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    path: dict[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    body_required: bool = True
    body_type: str = "application/json"
    content_types: tuple[str, ...] = ("application/json",)
    if_match: bool = False
    also: tuple[int, ...] = ()


def obj(required: dict[str, Schema] | None = None, /, **more: Schema) -> Schema:
    """An object with these fields always there."""
    fields = {**(required or {}), **more}
    return {"type": "object", "required": list(fields), "properties": fields}


def some(base: Schema, /, **optional: Schema) -> Schema:
    """`base` with fields that may be missing."""
    return {**base, "properties": {**base.get("properties", {}), **optional}}


def closed(base: Schema) -> Schema:
    """No other fields: requests refuse what they don't know."""
    return {**base, "additionalProperties": False}


def array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def mapped(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page(items: Schema) -> Schema:
    """Every list."""
    return obj(data=array(items), next_cursor=nullable(TEXT))


def paged(most: int) -> dict[str, Schema]:
    """Query of every list."""
    return {"limit": {"type": "integer", "minimum": 1, "maximum": most}, "cursor": TEXT}


def struct(kind: Any) -> tuple[Schema, dict[str, Schema]]:
    """(schema, schemas it refers to) of a Struct a request is read with."""
    (out,), named = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return out, named


def stored(*fields: str) -> Schema:
    """A definition as answered: what was put, and id, version, created_at; of the rest, `fields` are
    always there."""
    return {
        "type": "object",
        "required": ["id", "version", "created_at", *fields],
        "properties": {"id": TEXT, "version": {"type": "integer", "minimum": 1}, "created_at": TIME},
    }
