"""The pages. `make_app` puts them together."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rondo_common import web
from rondo_common.problems import Problem
from services.dashboard.api import conversations, inbox, live
from services.dashboard.api.guard import Guard
from services.dashboard.api.page import failure
from services.dashboard.clients.gateway import Gateway, Refused
from services.dashboard.collector import Collector

MAX_FORM = 64_000
STATIC = Path(__file__).parents[1] / "static"


def make_app(collector: Collector, gateway: Gateway, own_url: str) -> Starlette:
    """The pages over a collector and a gateway. `own_url` is where people reach them."""
    app = Starlette(
        routes=[
            Route("/", live.show, methods=["GET"]),
            Route("/events", live.events, methods=["GET"]),
            *inbox.routes,
            *conversations.routes,
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
    )
    state: Any = app.state
    state.collector, state.gateway = collector, gateway
    web.install(app, max_body=MAX_FORM)
    app.add_exception_handler(HTTPException, _on_http)  # type: ignore[arg-type]
    app.add_exception_handler(Problem, _on_problem)  # type: ignore[arg-type]
    app.add_exception_handler(Refused, _on_refused)  # type: ignore[arg-type]
    app.add_middleware(Guard, own_url=own_url)
    return app


async def _on_http(request: Request, error: HTTPException) -> Response:
    title = "There is no such page" if error.status_code == 404 else str(error.detail)
    return await failure(request, error.status_code, title, "Choose one of these.")


async def _on_problem(request: Request, error: Problem) -> Response:
    return await failure(request, error.status, error.title, error.detail)


async def _on_refused(request: Request, error: Refused) -> Response:
    return await failure(request, error.status, "That did not work", str(error))
