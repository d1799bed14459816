"""Whether a process is well, told over HTTP."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rondo_common import telemetry

Ready = Callable[[], tuple[bool, str]]
"""Says whether the process can do its work, and what it misses when it can't. Quick and without I/O."""


def all_ready(*checks: Ready) -> Ready:
    """Ready when all are; until then it says what the first one that is not says, after that what the first says."""

    def ready() -> tuple[bool, str]:
        found = [check() for check in checks]
        return next((one for one in found if not one[0]), found[0])

    return ready


def routes(ready: Ready) -> list[BaseRoute]:
    """/healthz (the process answers), /readyz (it can do its work; 503 says what it misses), /metrics (all, or
    those of `?name[]=`, as Prometheus' own client libraries have it)."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        try:
            good, why = ready()
        except Exception as e:  # what it asks is not there yet
            good, why = False, f"readiness is not known: {e}"
        return JSONResponse({"ready": good, "detail": why}, status_code=200 if good else 503)

    async def metrics(request: Request) -> Response:
        body, kind = telemetry.exposition(request.query_params.getlist("name[]"))
        return Response(body, headers={"content-type": kind})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def app(ready: Ready, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The small HTTP server of a process whose work is elsewhere: health, metrics, and any extra routes."""
    return Starlette(routes=[*routes(ready), *extra_routes])
