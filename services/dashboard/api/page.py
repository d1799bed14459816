"""Making whole pages."""

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.dashboard.fragments import environment


async def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """templates/<name>.html with the latest fragments; `values` are the page's own."""
    now = await request.app.state.collector.current()
    found = {"page": name, "html": now.html, "now": now.snapshot.now, "error": "", "done": "", **values}
    return HTMLResponse(environment.get_template(f"{name}.html").render(found), status, {"cache-control": "no-store"})


async def failure(request: Request, status: int, title: str, text: str) -> Response:
    """A page that says what went wrong."""
    return await page(request, "error", status, title=title, text=text)
