"""Templates: versions, and what one looks like for a member."""

import secrets
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_common.problems import Problem, invalid
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from rondo_protos.delivery.v1 import delivery_pb2
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.bodies import Render
from services.gateway.conditions import if_version, versioned
from services.gateway.members import find, limit_of
from services.gateway.routes.keys import checked_id

router = APIRouter(prefix="/v1/templates", tags=["templates"])
Read = Annotated[Grant, Depends(needs("campaigns:read"))]
Write = Annotated[Grant, Depends(needs("campaigns:write"))]
CHANNELS = ("email", "sms", "messaging")


async def _put(id: str, request: Request, grant: Grant) -> Response:
    wanted = pb.PutTemplateRequest(
        workspace=grant.workspace,
        id=checked_id(id),
        body_json=await web.read_json(request),
        actor=grant.id,
        if_version=if_version(request),
    )
    answer = await request.app.state.clients.campaigns.PutTemplate(wanted, timeout=20)
    return versioned(answer.template, 201 if answer.created else 200)


@router.put("/{id}", summary="Make a template or a new version of it")
async def put(id: str, request: Request, grant: Write) -> Response:
    return await _put(id, request, grant)


@router.post("", status_code=201, summary="Make a template with an id of our choosing")
async def post(request: Request, grant: Write) -> Response:
    return await _put(f"t{secrets.token_hex(6)}", request, grant)


@router.get("", summary="All templates")
async def listing(request: Request, grant: Read) -> Response:
    wanted = pb.ListTemplatesRequest(
        workspace=grant.workspace, limit=limit_of(request), cursor=request.query_params.get("cursor", "")
    )
    found = await request.app.state.clients.campaigns.ListTemplates(wanted)
    return raw_json(web.page([msgspec.Raw(t.body_json) for t in found.templates], found.next_cursor or None))


@router.get("/{id}", summary="A template")
async def get(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetTemplateRequest(workspace=grant.workspace, id=id)
    return versioned((await request.app.state.clients.campaigns.GetTemplate(wanted)).template)


@router.get("/{id}/versions", summary="Every version of a template, newest first")
async def versions(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.ListTemplateVersionsRequest(workspace=grant.workspace, id=id)
    found = await request.app.state.clients.campaigns.ListTemplateVersions(wanted)
    return raw_json(web.page([msgspec.Raw(v.body_json) for v in found.versions]))


@router.post("/{id}/render", summary="What a template looks like for a member; nothing is sent")
async def render(id: str, request: Request, grant: Read) -> Response:
    body = await web.read(request, Render)
    if body.channel not in CHANNELS:
        raise Problem(
            422,
            "invalid-request",
            "The channel is not valid",
            errors=[invalid("/channel", "unknown_channel", ", ".join(CHANNELS))],
        )
    clients = request.app.state.clients
    template = (await clients.campaigns.GetTemplate(pb.GetTemplateRequest(workspace=grant.workspace, id=id))).template
    own = msgspec.json.decode(template.body_json, type=dict[str, Any])
    shape = {k: v for k, v in own.items() if k in ("default_locale", "email", "sms", "messaging", "locales")}
    profile = b""
    if body.member is not None:
        profile = (await find(request, grant.workspace, body.member)).profile_json
    encode = msgspec.json.encode
    wanted = delivery_pb2.RenderRequest(
        workspace=grant.workspace,
        channel=body.channel,
        template_json=encode(shape),
        profile_json=profile,
        data_json=encode(body.data),
        event_json=encode(body.event),
        locale=body.locale,
    )
    r = await clients.delivery.Render(wanted)
    answer: dict[str, Any] = {"channel": body.channel, "subject": r.subject or None, "html": r.html or None, "text": r.text,
                              "missing": list(r.missing), "locale": r.locale}  # fmt: skip
    if body.channel == "sms":
        answer["sms_segments"] = r.segments
    if r.aborted:
        answer["aborted"] = r.aborted
    return JSONResponse(answer)
