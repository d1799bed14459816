"""Campaigns: definitions, versions, and what is done with them."""

import secrets
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rondo_common import web
from rondo_common.keys import Grant
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from services.gateway.access import needs
from services.gateway.answers import raw_json
from services.gateway.conditions import if_version, versioned
from services.gateway.members import limit_of
from services.gateway.routes.keys import checked_id

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])
Read = Annotated[Grant, Depends(needs("campaigns:read"))]
Write = Annotated[Grant, Depends(needs("campaigns:write"))]


async def _put(id: str, request: Request, grant: Grant) -> Response:
    wanted = pb.PutCampaignRequest(
        workspace=grant.workspace,
        id=checked_id(id),
        body_json=await web.read_json(request),
        actor=grant.id,
        if_version=if_version(request),
    )
    answer = await request.app.state.clients.campaigns.PutCampaign(wanted, timeout=20)
    return versioned(answer.campaign, 201 if answer.created else 200)


@router.put("/{id}", summary="Make a campaign or a new version of it; runs go on with theirs")
async def put(id: str, request: Request, grant: Write) -> Response:
    return await _put(id, request, grant)


@router.post("", status_code=201, summary="Make a campaign with an id of our choosing")
async def post(request: Request, grant: Write) -> Response:
    return await _put(f"c{secrets.token_hex(6)}", request, grant)


@router.get("", summary="All campaigns")
async def listing(request: Request, grant: Read) -> Response:
    limit = min(limit_of(request), 200)
    wanted = pb.ListCampaignsRequest(
        workspace=grant.workspace, limit=limit, cursor=request.query_params.get("cursor", "")
    )
    found = await request.app.state.clients.campaigns.ListCampaigns(wanted)
    return raw_json(web.page([msgspec.Raw(c.body_json) for c in found.campaigns], found.next_cursor or None))


@router.get("/{id}", summary="A campaign")
async def get(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.GetCampaignRequest(workspace=grant.workspace, id=id)
    return versioned((await request.app.state.clients.campaigns.GetCampaign(wanted)).campaign)


@router.get("/{id}/versions", summary="Every version of a campaign, newest first")
async def versions(id: str, request: Request, grant: Read) -> Response:
    wanted = pb.ListCampaignVersionsRequest(workspace=grant.workspace, id=id)
    found = await request.app.state.clients.campaigns.ListCampaignVersions(wanted)
    return raw_json(web.page([msgspec.Raw(v.body_json) for v in found.versions]))


@router.post("/{id}/start", status_code=202, summary="Begin a run of a broadcast, or open a triggered campaign")
async def start(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.StartCampaignRequest(
        workspace=grant.workspace,
        campaign=id,
        idempotency_key=request.headers.get("idempotency-key", ""),
        actor=grant.id,
    )
    answer = await request.app.state.clients.campaigns.StartCampaign(wanted, timeout=20)
    return JSONResponse({"run_id": answer.run_id}, 202)


@router.post("/{id}/pause", summary="Hold it: within 1 s no provider call begins for it")
async def pause(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.PauseCampaignRequest(workspace=grant.workspace, campaign=id, actor=grant.id)
    answer = await request.app.state.clients.campaigns.PauseCampaign(wanted, timeout=15)
    return JSONResponse({"campaign": id, "status": answer.status})


@router.post("/{id}/resume", summary="Go on where it was held")
async def resume(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.ResumeCampaignRequest(workspace=grant.workspace, campaign=id, actor=grant.id)
    answer = await request.app.state.clients.campaigns.ResumeCampaign(wanted, timeout=15)
    return JSONResponse({"campaign": id, "status": answer.status})


@router.post("/{id}/cancel", summary="End it: what has not left is skipped")
async def cancel(id: str, request: Request, grant: Write) -> Response:
    wanted = pb.CancelCampaignRequest(workspace=grant.workspace, campaign=id, actor=grant.id)
    answer = await request.app.state.clients.campaigns.CancelCampaign(wanted, timeout=15)
    return JSONResponse({"campaign": id, "status": answer.status})
