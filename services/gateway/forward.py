"""Calls that are another process's own, passed on to it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.problems import not_found, unavailable


async def forward(request: Request, base: str, name: str, params: Mapping[str, str], **more: Any) -> Response:
    """The answer of the process at `base` to this call. Problem 503 when `name` does not answer.

    The path is escaped again: what came as %3F or %0A is part of an id and stays one. A part that is only
    dots would lead to another address, so nothing is called like that.
    """
    path = request.url.path
    if any(part in (".", "..") for part in path.split("/")):
        raise not_found("address", path)
    try:
        answer = await request.app.state.clients.http.request(
            request.method, base + quote(path, safe="/"), params=params, content=await request.body(), **more
        )
    except httpx.HTTPError as e:
        raise unavailable(name, "It does not answer") from e
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
