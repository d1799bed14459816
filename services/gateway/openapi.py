"""GET /openapi.json: OpenAPI 3.1, with the problem document as every refusal."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

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
_REFUSALS = {
    "400": "Not JSON",
    "401": "No valid key",
    "403": "The key lacks the scope",
    "404": "Not in this workspace",
    "409": "Its state, or something running, forbids this",
    "412": "Changed since you read it",
    "413": "Too large",
    "415": "Not application/json",
    "422": "Readable but not meaningful; errors[] points at what",
    "429": "Too many calls; see Retry-After",
    "501": "Not served by this version",
    "502": "A service behind failed",
    "503": "A service behind is not available; see Retry-After",
}
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key and body: the first answer again.",
}


def _document(app: FastAPI) -> dict[str, Any]:
    doc = get_openapi(title=app.title, version=app.version, routes=app.routes, openapi_version="3.1.0",
                      description="Member engagement at each member's rhythm. See docs/ for recipes.")  # fmt: skip
    doc.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
    doc["components"]["schemas"].pop("HTTPValidationError", None)
    doc["components"]["schemas"].pop("ValidationError", None)
    doc["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "rk_..."}}
    doc["security"] = [{"key": []}]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for operations in doc["paths"].values():
        for method, operation in operations.items():
            for status, about in _REFUSALS.items():
                operation["responses"][status] = {"description": about, "content": problem}
            if method == "post":
                operation.setdefault("parameters", []).append(_KEY_HEADER)
            if method in ("post", "put") and "requestBody" not in operation:
                operation["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return doc


def describe(app: FastAPI) -> None:
    """Serve the document of the routes the app has by now."""

    async def document(_: Request) -> Response:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return JSONResponse(app.openapi_schema)

    app.add_route("/openapi.json", document, include_in_schema=False)
