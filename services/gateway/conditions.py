"""ETag and If-Match: the version of a definition."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.problems import Problem, invalid
from services.gateway.answers import raw_json


def if_version(request: Request) -> int | None:
    """The version in If-Match, None without one; Problem 422 when it is no version of ours."""
    text = request.headers.get("if-match")
    if text is None or text == "*":
        return None
    number = text.removeprefix("W/").strip('"')
    if not number.isdigit():
        where = [invalid("/headers/If-Match", "invalid", 'the ETag of the answer, such as "3"')]
        raise Problem(422, "invalid-request", "The If-Match is not valid", errors=where)
    return int(number)


def versioned(definition: Any, status: int = 200) -> Response:
    """A definition's body with its version as ETag."""
    return raw_json(msgspec.Raw(definition.body_json), status, {"ETag": f'"{definition.version}"'})
