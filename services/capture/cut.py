"""Cutting an HTTP connection without an answer, as a provider that dies in mid-call does."""

from starlette.requests import Request
from starlette.responses import Response


async def cut(request: Request) -> Response:
    """Abort the socket under the request. ASGI has no word for it, so this asks uvicorn's request
    cycle, which `receive` is a method of. The answer returned goes nowhere."""
    cycle = getattr(request.receive, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("this server can't cut a connection: run capture under uvicorn")
    transport.abort()
    return Response()
