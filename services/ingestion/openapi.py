"""This service's OpenAPI 3.1 document, as plain data; it answers GET /openapi.json with it.

What is said here is what the code does; where Segment leaves a question open, the answer stands here.
"""

from typing import Any

from services.ingestion.door import CALLS
from services.ingestion.model import MAX_BATCH, MAX_DEPTH, MAX_EVENT, MAX_EVENTS, MAX_ID, Code

_SUCCESS = {"type": "object", "properties": {"success": {"const": True}}, "required": ["success"]}
_OBJECT = {"type": "object", "additionalProperties": True}
_ID = {"oneOf": [{"type": "string", "maxLength": MAX_ID}, {"type": "integer"}]}
_TIME = {"type": "string", "format": "date-time"}

_ABOUT = {
    "identify": "Say who somebody is: traits.",
    "track": "Say what somebody did: an event with properties.",
    "page": "A page was seen.",
    "screen": "A screen of an app was seen.",
    "group": "Somebody belongs to a group.",
    "alias": "previousId and userId are the same person.",
    "batch": f"Up to {MAX_EVENTS} calls in one request of at most {MAX_BATCH} bytes after inflating.",
    "import": "As batch, for what happened long ago: every event is historical and starts no campaign.",
}
_RULES = f"""
Segment's HTTP API. The write key is the user of Basic auth (any password), or `writeKey` in the body.
JSON as application/json or text/plain, plain or gzip. An event has at most {MAX_EVENT} bytes and {MAX_DEPTH}
levels. 200 is answered once Kafka has acknowledged what is kept.

Without `X-Strict-Mode: 1` a bad event is filed on rondo.events.rejected.v1 with one of the codes
{", ".join(Code)} and its pointer; the others of its batch are kept. With it nothing is kept and 400 names
each. A body that is no JSON, or over a limit, is refused whole in both.

Ids are text or whole numbers (taken as their decimal text); blank ones count as absent. Of repeated keys
of an object the last counts. A repeated messageId changes nothing for seven days a sender; one is made when it
is absent. Times need a zone. timestamp = receipt - (sentAt - timestamp); more than five minutes after
receipt it becomes the receipt; before 1900 it is refused. An unreadable sentAt of a batch is left out of
account, in strict mode refused. The batch's context and integrations lie under each event's, the event's
own values win. `integrations {{"All": false}}` without "Rondo" means the event is not kept.
""".strip()


def _problem(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_REFUSALS = {
    "400": _problem("Not JSON, or in strict mode: events that are not valid, with a pointer for each"),
    "401": _problem("A wrong write key"),
    "413": _problem("Over a limit"),
    "415": _problem("A content type or encoding that is not taken"),
    "503": _problem("Kafka falls behind: send it again after Retry-After seconds"),
}


def _event() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "type": {"enum": [c for c in CALLS if c not in ("batch", "import")]},
            "messageId": _ID,
            "userId": _ID,
            "anonymousId": _ID,
            "previousId": _ID,
            "groupId": _ID,
            "event": {"type": "string"},
            "name": {"type": "string"},
            "category": {"type": "string"},
            "properties": _OBJECT,
            "traits": _OBJECT,
            "context": {"type": "object", "properties": {"historical": {"type": "boolean"}}},
            "integrations": _OBJECT,
            "timestamp": _TIME,
            "sentAt": _TIME,
        },
    }


def _call(name: str) -> dict[str, Any]:
    schema = _event()
    if name in ("batch", "import"):
        schema = {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "batch": {"type": "array", "maxItems": MAX_EVENTS, "items": _event()},
                "context": _OBJECT,
                "integrations": _OBJECT,
                "sentAt": _TIME,
                "writeKey": {"type": "string"},
            },
        }
    return {
        "post": {
            "operationId": name,
            "tags": ["events"],
            "summary": _ABOUT[name],
            "description": _RULES,
            "security": [{"writeKey": []}],
            "parameters": [
                {
                    "name": "X-Strict-Mode",
                    "in": "header",
                    "schema": {"type": "string"},
                    "description": "1: all or nothing",
                }
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "200": {"description": "Kept", "content": {"application/json": {"schema": _SUCCESS}}},
                **_REFUSALS,
            },
        }
    }


_STATUS = {
    "type": "object",
    "properties": {
        "import_id": {"type": "string"},
        "status": {"enum": ["queued", "running", "finished", "failed"]},
        "rows": {"type": "integer"},
        "accepted": {"type": "integer"},
        "rejected": {"type": "integer"},
        "rate_per_s": {"type": "number"},
        "errors_url": {"type": "string"},
    },
}
_ERROR = {
    "type": "object",
    "required": ["row", "code", "pointer", "detail"],
    "properties": {"row": {"type": "integer"}, **{name: {"type": "string"} for name in ("code", "pointer", "detail")}},
}
_PAGE = {
    "type": "object",
    "required": ["data", "next_cursor"],
    "properties": {"data": {"type": "array", "items": _ERROR}, "next_cursor": {"type": ["string", "null"]}},
}
_CALLBACKS = {
    "sendgrid": {"204": {"description": "Kept"}},
    "sendgrid-inbound": {"200": {"description": "Kept"}},
    "twilio/status": {"204": {"description": "Kept"}},
    "twilio/inbound": {"200": {"description": "Kept", "content": {"text/xml": {"schema": {"type": "string"}}}}},
    "telegram": {"200": {"description": "Kept"}},
    "whatsapp": {"501": _problem("Not served yet")},
}


def _imports() -> dict[str, Any]:
    id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    form = {
        "type": "object",
        "required": ["file", "mapping"],
        "properties": {
            "file": {"type": "string", "contentMediaType": "text/csv"},
            "mapping": {"type": "string", "contentMediaType": "application/json"},
            "dry_run": {"type": "boolean"},
        },
    }
    mapping = (
        'The mapping names a column for each field: {"type": "track", "event": "Order Completed", '
        '"userId": "customer", "timestamp": {"column": "date", "format": "%Y%m%d"}, '
        '"properties": {"total": {"column": "dollars", "as": "number"}, "source": {"value": "file"}}}. '
        "`as`: text, number, integer, boolean, json. `delimiter` defaults to a comma, `historical` to true. "
        "The same file with the same mapping is the same import and changes nothing."
    )
    security = [{"writeKey": []}]
    made = {"type": "object", "properties": {"import_id": {"type": "string"}}}
    return {
        "/v1/imports": {
            "post": {
                "operationId": "create_import",
                "tags": ["events"],
                "summary": "Import a CSV file",
                "description": mapping,
                "security": security,
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
                "responses": {
                    "202": {"description": "Under way", "content": {"application/json": {"schema": made}}},
                    **{status: _REFUSALS[status] for status in ("400", "401", "413", "415")},
                    "422": _problem("A mapping that does not fit the file"),
                },
            }
        },
        "/v1/imports/{id}": {
            "get": {
                "operationId": "get_import",
                "tags": ["events"],
                "summary": "How far an import is",
                "security": security,
                "parameters": [id],
                "responses": {
                    "200": {"description": "Its counts", "content": {"application/json": {"schema": _STATUS}}},
                    "401": _REFUSALS["401"],
                    "404": _problem("No such import"),
                },
            }
        },
        "/v1/imports/{id}/errors": {
            "get": {
                "operationId": "list_import_errors",
                "tags": ["events"],
                "summary": "Rows that were refused: row, code, pointer, detail",
                "security": security,
                "parameters": [
                    id,
                    {"name": "cursor", "in": "query", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
                ],
                "responses": {
                    "200": {"description": "A page of them", "content": {"application/json": {"schema": _PAGE}}},
                    "401": _REFUSALS["401"],
                    "404": _problem("No such import"),
                    "422": _problem("A cursor that is not ours, or a limit out of range"),
                },
            }
        },
    }


def openapi_paths() -> dict[str, Any]:
    """OpenAPI 3.1 `paths` of this service. They refer to the security scheme `writeKey` (HTTP Basic) and
    the schema `Problem`, which `document` defines."""
    paths = {f"/v1/{name}": _call(name) for name in CALLS} | _imports()
    for name, answer in _CALLBACKS.items():
        shown = {
            "tags": ["callbacks"],
            "summary": f"Provider callback: {name}",
            "security": [],
            "responses": {
                **answer,
                "400": _problem("Not what this provider sends"),
                "403": _problem("A bad signature: nothing enters"),
                **{status: _REFUSALS[status] for status in ("413", "415", "503")},
            },
        }
        methods = ("get", "post") if name == "whatsapp" else ("post",)
        id = "callback_" + name.replace("/", "_").replace("-", "_")
        paths[f"/v1/callbacks/{name}"] = {m: {"operationId": f"{id}_{m}", **shown} for m in methods}
    return paths


def document() -> dict[str, Any]:
    """The whole document."""
    error = {
        "type": "object",
        "required": ["pointer", "code", "detail"],
        "properties": {name: {"type": "string"} for name in ("pointer", "code", "detail")},
    }
    problem = {
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": error},
        },
    }
    key = {"type": "http", "scheme": "basic", "description": "The write key is the user; any password"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rondo ingestion",
            "version": "1.0.0",
            "description": "Events in, as Segment's SDKs send them.",
        },
        "paths": openapi_paths(),
        "components": {"schemas": {"Problem": problem}, "securitySchemes": {"writeKey": key}},
    }
