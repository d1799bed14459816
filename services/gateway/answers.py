"""Answers as JSON, with parts that are JSON already."""

from typing import Any

import msgspec
from starlette.responses import Response


def raw_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`body` (Structs, msgspec.Raw and plain values) as application/json."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
