"""Addresses of the contract that this version does not serve yet: 501, so that nobody takes them for typos."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.keys import Grant
from rondo_common.problems import not_implemented
from services.gateway.access import needs

router = APIRouter()
ADDRESSES: tuple[tuple[str, str], ...] = (
    ("POST", "/v1/simulations"),
    ("GET", "/v1/trace/{id}"),
    ("GET", "/v1/reports/{path:path}"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/members/{id}/export"),
    ("DELETE", "/v1/members/{id}"),
    ("GET", "/v1/operations/{id}"),
    ("POST", "/v1/templates/{id}/test"),
    ("POST", "/v4/shorten"),
    ("GET", "/v4/bitlinks/{path:path}"),
    ("POST", "/v4/bitlinks/{path:path}"),
    *((method, f"/v1/{noun}") for noun in ("watches", "mentions", "cases", "gatherings", "contests", "ambassadors", "feedback") for method in ("GET", "POST")),
)  # fmt: skip


async def unserved(request: Request, grant: Annotated[Grant, Depends(needs("reports:read"))]) -> Response:
    raise not_implemented(f"{request.method} {request.url.path}")


for _method, _path in ADDRESSES:
    router.add_api_route(_path, unserved, methods=[_method], status_code=501, tags=["later"], summary="Not served yet",
                         name=f"{_method} {_path}", operation_id=f"{_method}_{_path}".replace("/", "_").replace("{", "").replace("}", "").replace(":", "_"))  # fmt: skip
