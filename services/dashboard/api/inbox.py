"""The sandbox's inbox: what was captured, and acting as the member."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from rondo_common.problems import not_found
from services.dashboard.api.page import page
from services.dashboard.clients.gateway import Refused, path

PAGE = 50
MESSAGES = ("v1", "inbox", "messages")
CHANNELS = ("email", "sms", "messaging")
ACTS = {
    "open": "Open",
    "click": "Click the first link",
    "scan": "Scan (a machine follows all links)",
    "bounce": "Bounce",
    "complain": "Complain",
    "unsubscribe": "Unsubscribe",
}
DONE = {
    "reply": "The reply is on its way in.",
    "open": "Opened.",
    "click": "Clicked.",
    "scan": "Scanned: all links were followed at once, as a machine does.",
    "bounce": "The bounce is on its way in.",
    "complain": "The complaint is on its way in.",
    "unsubscribe": "Unsubscribed by one click.",
}
MAIL_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
"""A captured mail may style itself and do nothing else: no script, no request to anywhere. It has a
document of its own because an iframe's srcdoc would inherit the page's policy, which forbids its styles."""


async def listing(request: Request) -> Response:
    """Messages, newest first, by channel and text."""
    q = request.query_params
    channel, text, cursor = q.get("channel", ""), q.get("q", "").strip(), q.get("cursor", "")
    chosen = {k: v for k, v in (("channel", channel), ("q", text)) if v}
    values: dict[str, Any] = {
        "channels": CHANNELS,
        "channel": channel,
        "q": text,
        "here": "/inbox" + (f"?{urlencode(chosen)}" if chosen else ""),
    }
    gateway = request.app.state.gateway
    try:
        total = (await gateway.get("/v1/inbox/stats"))["total"]
        found = await gateway.get("/v1/inbox/messages", channel=channel, q=text, cursor=cursor, limit=PAGE)
    except Refused as e:
        return await page(request, "inbox", e.status, error=str(e), messages=[], more="", total=0, **values)
    following = found["next_cursor"]
    more = "/inbox?" + urlencode({**chosen, "cursor": following}) if following else ""
    return await page(request, "inbox", messages=found["data"], more=more, total=total, **values)


async def one(request: Request) -> Response:
    """One message. `done` names the act that was just performed."""
    return await _detail(request, done=DONE.get(request.query_params.get("done", ""), ""))


async def _detail(request: Request, status: int = 200, **said: str) -> Response:
    m = await _message(request)
    return await page(request, "message", status, m=m, actions=[(a, ACTS[a]) for a in possible(m)], **said)


async def _message(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = await request.app.state.gateway.get(path(*MESSAGES, request.path_params["id"]))
    return found


def possible(m: dict[str, Any]) -> list[str]:
    """Acts that this message allows."""
    email, links = m["channel"] == "email", bool(m.get("links"))
    allowed = {
        "open": bool(m.get("html")),
        "click": links,
        "scan": links,
        "bounce": m["channel"] in ("email", "sms"),
        "complain": email,
        "unsubscribe": any(name.lower() == "list-unsubscribe" for name in m.get("headers") or {}),
    }
    return [act for act in ACTS if allowed[act]]


async def html(request: Request) -> Response:
    """The HTML of a mail, in a document that can do nothing."""
    m = await _message(request)
    if not m.get("html"):
        raise not_found("HTML part of message", m["id"])
    return HTMLResponse(m["html"], headers={"content-security-policy": MAIL_POLICY, "cache-control": "no-store"})


async def raw(request: Request) -> Response:
    """A message as received, as plain text."""
    body = await request.app.state.gateway.raw(path(*MESSAGES, request.path_params["id"], "raw"))
    return Response(body, media_type="text/plain; charset=utf-8", headers={"content-security-policy": "sandbox"})


async def act(request: Request) -> Response:
    """Act as the member, then show the message again."""
    id, name = request.path_params["id"], request.path_params["act"]
    if name not in DONE:
        raise not_found("action", name)
    form = await request.form()
    body: dict[str, Any] = {}
    if name == "reply":
        body["text"] = str(form.get("text", ""))
    link = str(form.get("link", "0"))
    if name == "click":
        body["link"] = int(link) if link.isdigit() else 0
    try:
        await request.app.state.gateway.post(path(*MESSAGES, id, name), body)
    except Refused as e:
        return await _detail(request, e.status, error=f"{name}: {e}")
    return RedirectResponse(f"{path('inbox', id)}?done={name}", 303)


routes = [
    Route("/inbox", listing, methods=["GET"]),
    Route("/inbox/{id}", one, methods=["GET"]),
    Route("/inbox/{id}/html", html, methods=["GET"]),
    Route("/inbox/{id}/raw", raw, methods=["GET"]),
    Route("/inbox/{id}/{act}", act, methods=["POST"]),
]
