"""Imports: ingestion's own addresses, for people who hold an API key."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from rondo_common.keys import Grant, make_internal_key
from services.gateway.access import needs
from services.gateway.forward import forward

router = APIRouter(prefix="/v1/imports", tags=["imports"])
Read = Annotated[Grant, Depends(needs("members:read"))]
Write = Annotated[Grant, Depends(needs("members:write"))]


async def _pass(request: Request, grant: Grant) -> Response:
    state = request.app.state
    key = make_internal_key(state.settings.secret, grant.workspace)
    headers = {k: v for k in ("content-type", "idempotency-key") if (v := request.headers.get(k))}
    return await forward(
        request,
        state.settings.url_ingestion,
        "ingestion",
        request.query_params,
        headers=headers,
        auth=(key, ""),
        timeout=60,
    )


@router.post("", status_code=202, summary="Import a CSV file: multipart with file, mapping (JSON) and dry_run")
async def post(request: Request, grant: Write) -> Response:
    return await _pass(request, grant)


@router.get("/{id}", summary="How far an import is")
async def get(id: str, request: Request, grant: Read) -> Response:
    return await _pass(request, grant)


@router.get("/{id}/errors", summary="The rows an import refused, and why")
async def errors(id: str, request: Request, grant: Read) -> Response:
    return await _pass(request, grant)
