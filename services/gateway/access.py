"""Who is asking, and whether they may: Bearer keys with scopes."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from rondo_common.keys import Grant, Keys
from rondo_common.problems import Problem

SCOPES = frozenset(
    f"{area}:{verb}"
    for area in ("members", "segments", "campaigns", "send", "policies", "inbox", "conversations", "reports", "admin")
    for verb in ("read", "write")
)


def grant_of(keys: Keys, authorization: str) -> Grant:
    """The grant of an Authorization header; Problem 401 without a valid Bearer key."""
    scheme, _, key = authorization.partition(" ")
    found = keys.admin(key.strip()) if scheme.lower() == "bearer" else None
    if found is not None:
        return found
    if not keys.complete():
        raise Problem(503, "unavailable", "Keys are still being read", headers={"Retry-After": "1"})
    detail = "Send Authorization: Bearer rk_..." if not key else "This key is unknown or withdrawn"
    raise Problem(401, "unauthenticated", "A valid key is needed", detail, headers={"WWW-Authenticate": "Bearer"})


def needs(scope: str) -> Callable[[Request], Awaitable[Any]]:
    """A dependency: the caller's Grant, when it has `scope`. Notes it on the request for the audit."""
    assert scope in SCOPES, scope

    async def check(request: Request) -> Grant:
        grant = grant_of(request.app.state.keys, request.headers.get("authorization", ""))
        request.state.grant = grant
        if not grant.allows(scope):
            raise Problem(403, "forbidden", "This key may not do that", f"It needs the scope {scope}")
        return grant

    return check
