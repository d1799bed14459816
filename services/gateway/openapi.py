"""GET /openapi.json: OpenAPI 3.1, exact enough to be tested against: every parameter, body and answer
comes from `contract`, and an address lists the refusals it really has."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.contract import OPERATIONS, SCHEMAS
from services.gateway.contract.examples import BODIES, example_id
from services.gateway.contract.parts import Operation
from services.gateway.idempotency import MAX_KEY
from services.gateway.routes.unserved import ADDRESSES

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {k: {"type": "string"} for k in ("pointer", "code", "detail")},
            },
        },
    },
}
_ABOUT = {
    400: "Not JSON",
    401: "No valid key",
    403: "The key lacks the scope",
    404: "Not in this workspace",
    409: "Its state, or something running, forbids this",
    412: "Changed since you read it",
    413: "Too large",
    415: "Not application/json",
    422: "Readable but not meaningful; errors[] points at what",
    501: "Not served by this version",
    503: "A service behind is not available; see Retry-After",
}
_DONE = {200: "Done", 201: "Made", 202: "Accepted: it goes on by itself", 204: "Done"}
_UNSERVED = {(method.lower(), path.replace(":path", "")) for method, path in ADDRESSES}
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    "description": "The same key and body: the first answer again.",
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": r'^(\*|(W/)?"\d+")$'},
    "description": "The ETag you read: 412 when there is a newer version.",
}


def refusals(method: str, path: str, operation: Operation) -> list[int]:
    """The statuses with which an address may refuse. 405 is for what is not listed."""
    found = {401, 403, 503}
    if (method, path) in _UNSERVED:
        return sorted({401, 403, 404, 501} | ({409, 413, 422} if method == "post" else set()))
    if operation.path or operation.query or operation.body or "{" in path or method == "post":
        found |= {404, 422}
    if operation.body is not None:
        found |= {400, 413, 415}
    if method != "get":
        found |= {409, 413}
    if operation.if_match:
        found.add(412)
    return sorted(found | set(operation.also))


def _describe(method: str, path: str, shown: dict[str, Any], operation: Operation) -> None:
    """Fill in what `contract` says about one address."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers: dict[str, Any] = {}
    for status, schema in operation.answers.items():
        answers[str(status)] = {"description": _DONE[status]}
        if schema is not None:
            answers[str(status)]["content"] = {kind: {"schema": schema} for kind in operation.content_types}
    for status in refusals(method, path, operation):
        answers[str(status)] = {"description": _ABOUT[status], "content": problem}
    shown["responses"] = answers
    parameters: list[dict[str, Any]] = []
    for name in re.findall(r"{(\w+)}", path):
        schema = operation.path.get(name, {"type": "string", "minLength": 1})
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        if example := example_id(path, name):
            parameter["example"] = example
        parameters.append(parameter)
    for name, schema in operation.query.items():
        parameters.append({"name": name, "in": "query", "required": name in operation.required, "schema": schema})
    if method == "post" and not path.startswith("/v1/imports"):
        parameters.append(_KEY_HEADER)
    if operation.if_match:
        parameters.append(_IF_MATCH)
    if operation.body is not None:
        content: dict[str, Any] = {operation.body_type: {"schema": operation.body}}
        if (method, path) in BODIES:
            content[operation.body_type]["example"] = BODIES[method, path]
        shown["requestBody"] = {"required": operation.body_required, "content": content}
    shown["parameters"] = parameters


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the routes the app has. KeyError for a route nobody described."""
    doc = get_openapi(title=app.title, version=app.version, routes=app.routes, openapi_version="3.1.0",
                      description="Member engagement at each member's rhythm. See docs/ for recipes.")  # fmt: skip
    doc["components"] = {
        "schemas": {"Problem": _PROBLEM, **SCHEMAS},
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "rk_..."}},
    }
    doc["security"] = [{"key": []}]
    for path, operations in doc["paths"].items():
        for method, shown in operations.items():
            _describe(method, path, shown, _said(method, path))
    return doc


def _said(method: str, path: str) -> Operation:
    return OPERATIONS.get((method, path)) or OPERATIONS[method, path.replace("{path}", "{path:path}")]


def describe(app: FastAPI) -> None:
    """Serve the document of the routes the app has by now."""

    async def served(_: Request) -> Response:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return JSONResponse(app.openapi_schema)

    app.add_route("/openapi.json", served, include_in_schema=False)
