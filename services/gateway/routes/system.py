"""The system itself: lag, the test clock, the health of services."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import web
from rondo_common.clock import from_iso
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid
from services.gateway.access import needs

router = APIRouter(prefix="/v1", tags=["system"])
Read = Annotated[Grant, Depends(needs("reports:read"))]
Admin = Annotated[Grant, Depends(needs("admin:write"))]


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    frozen_time: str


@router.get("/lag", summary="Whether everything accepted so far is done, and who is behind")
async def lag(request: Request, grant: Read) -> Response:
    return JSONResponse(await request.app.state.drain.look())


@router.get("/test-clock", summary="The test clock")
async def clock(request: Request, grant: Read) -> Response:
    return JSONResponse(request.app.state.test_clock.status())


@router.post("/test-clock/advance", status_code=202, summary="Move the test clock forward")
async def advance(request: Request, grant: Admin) -> Response:
    body = await web.read(request, Advance)
    try:
        to = from_iso(body.frozen_time)
    except ValueError as e:
        raise Problem(
            422, "invalid-request", "The time is not valid", str(e), [invalid("/frozen_time", "invalid_time", str(e))]
        ) from e
    return JSONResponse(request.app.state.test_clock.advance(to), 202)
