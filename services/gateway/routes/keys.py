"""Workspaces, keys, webhooks: what is only stored, as definitions."""

import re
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import keys as key_tools
from rondo_common import web
from rondo_common.clock import iso
from rondo_common.definitions import DefinitionStore
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid, not_found
from rondo_common.webhook_secrets import webhook_secret
from services.gateway.access import SCOPES, needs

router = APIRouter(prefix="/v1")
ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
OVERLAP_MS = 24 * 3_600_000
"""How long the old secret of a webhook goes on signing beside the new one."""
_TYPES = re.compile(r"\*|[a-z_]+\.(\*|[a-z_]+)")

Admin = Annotated[Grant, Depends(needs("admin:write"))]
AdminRead = Annotated[Grant, Depends(needs("admin:read"))]


class NewWorkspace(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    scopes: list[str]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    types: list[str] = msgspec.field(default_factory=lambda: ["*"])


def store_of(request: Request) -> DefinitionStore:
    store: DefinitionStore = request.app.state.definitions
    return store


def checked_id(id: str, pointer: str = "/id") -> str:
    """An id that people chose, or Problem 422."""
    if not ID.fullmatch(id):
        where = [invalid(pointer, "invalid_id", "[a-z0-9][a-z0-9_-]{0,63}")]
        raise Problem(422, "invalid-id", "The id is not valid", f"{id[:80]!r}", where)
    return id


async def _issue(
    store: DefinitionStore, workspace: str, name: str, kind: str, scopes: list[str], by: str
) -> dict[str, Any]:
    issued = key_tools.issue(kind)
    id = f"k{secrets.token_hex(6)}"
    body = {"name": name, "kind": kind, "scopes": sorted(scopes), "sha256": issued.sha256, "prefix": issued.prefix}
    await store.put(workspace, "key", id, body, by)
    return {"id": id, "name": name, "scopes": sorted(scopes), "key": issued.key}


@router.post("/workspaces", status_code=201, tags=["workspaces"], summary="Make a workspace; its keys are shown once")
async def make_workspace(request: Request, grant: Admin) -> Response:
    body = await web.read(request, NewWorkspace)
    id, store = checked_id(body.id), store_of(request)
    if id == request.app.state.settings.workspace or store.get(id, "workspace", id) is not None:
        raise Problem(409, "exists", "This workspace exists", f"Choose another id than {id!r}")
    await store.put(id, "workspace", id, {"id": id}, grant.id)
    write = await _issue(store, id, "first write key", "write", [], grant.id)
    admin = await _issue(store, id, "first admin key", "admin", ["admin:write"], grant.id)
    return JSONResponse({"id": id, "keys": {"write": write["key"], "admin": admin["key"]}}, 201)


@router.post("/keys", status_code=201, tags=["keys"], summary="Issue a key; it is shown once")
async def make_key(request: Request, grant: Admin) -> Response:
    body = await web.read(request, NewKey)
    unknown = [n for n, scope in enumerate(body.scopes) if scope not in SCOPES]
    if unknown or not body.scopes:
        where = [invalid(f"/scopes/{n}", "unknown_scope", "one of " + ", ".join(sorted(SCOPES))) for n in unknown]
        raise Problem(
            422,
            "invalid-request",
            "The scopes are not valid",
            errors=where or [invalid("/scopes", "required", "name at least one scope")],
        )
    return JSONResponse(
        await _issue(store_of(request), grant.workspace, body.name, "admin", body.scopes, grant.id), 201
    )


@router.get("/keys", tags=["keys"], summary="The workspace's keys, without their secrets")
async def list_keys(request: Request, grant: AdminRead) -> Response:
    data = []
    for d in store_of(request).list(grant.workspace, "key"):
        body = msgspec.json.decode(d.body)
        data.append(
            {
                "id": d.id,
                "name": body["name"],
                "scopes": body["scopes"],
                "prefix": body["prefix"],
                "created_at": d.created_at,
            }
        )
    return JSONResponse(web.page(data))


@router.delete("/keys/{id}", status_code=204, tags=["keys"], summary="Withdraw a key")
async def delete_key(id: str, request: Request, grant: Admin) -> Response:
    if store_of(request).get(grant.workspace, "key", id) is None:
        raise not_found("key", id)
    await store_of(request).delete(grant.workspace, "key", id, grant.id)
    return Response(status_code=204)


@router.post(
    "/webhooks", status_code=201, tags=["webhooks"], summary="Have events sent to a URL; the secret is shown once"
)
async def make_webhook(request: Request, grant: Admin) -> Response:
    body = await web.read(request, NewWebhook)
    parts = urlsplit(body.url)
    errors = []
    if parts.scheme not in ("http", "https") or not parts.hostname:
        errors.append(invalid("/url", "invalid_url", "an http or https URL"))
    errors += [
        invalid(f"/types/{n}", "invalid_type", "such as message.sent, message.* or *")
        for n, t in enumerate(body.types)
        if not _TYPES.fullmatch(t)
    ]
    if errors:
        raise Problem(422, "invalid-request", "The webhook is not valid", errors=errors)
    id = f"w{secrets.token_hex(6)}"
    await store_of(request).put(
        grant.workspace, "webhook", id, {"url": body.url, "types": body.types, "generation": 1}, grant.id
    )
    secret = webhook_secret(request.app.state.settings.secret, grant.workspace, id, 1)
    return JSONResponse({"id": id, "url": body.url, "types": body.types, "secret": secret}, 201)


@router.get("/webhooks", tags=["webhooks"], summary="The workspace's webhooks")
async def list_webhooks(request: Request, grant: AdminRead) -> Response:
    found = store_of(request).list(grant.workspace, "webhook")
    data = [{"id": d.id, **msgspec.json.decode(d.body), "created_at": d.created_at} for d in found]
    return JSONResponse(web.page(data))


@router.post(
    "/webhooks/{id}/rotate", status_code=201, tags=["webhooks"], summary="Replace the secret; both sign for a day"
)
async def rotate_webhook(id: str, request: Request, grant: Admin) -> Response:
    found = store_of(request).get(grant.workspace, "webhook", id)
    if found is None:
        raise not_found("webhook", id)
    body = msgspec.json.decode(found.body, type=dict[str, Any])
    until = iso(request.app.state.clock.now() + OVERLAP_MS)
    body |= {"generation": body["generation"] + 1, "old_secret_until": until}
    # two rotations at once: one of them must fail, or its caller would hold a secret nobody signs with
    await store_of(request).put(grant.workspace, "webhook", id, body, grant.id, found.version)
    secret = webhook_secret(request.app.state.settings.secret, grant.workspace, id, body["generation"])
    return JSONResponse({"id": id, "secret": secret, "old_secret_until": until}, 201)


@router.delete("/webhooks/{id}", status_code=204, tags=["webhooks"], summary="Stop sending to a URL")
async def delete_webhook(id: str, request: Request, grant: Admin) -> Response:
    if store_of(request).get(grant.workspace, "webhook", id) is None:
        raise not_found("webhook", id)
    await store_of(request).delete(grant.workspace, "webhook", id, grant.id)
    return Response(status_code=204)
