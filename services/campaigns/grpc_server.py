"""gRPC CampaignsService: what the proto says, handed to the requests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from rondo_common.problems import Problem, invalid
from rondo_common.records import Definition
from rondo_protos.campaigns.v1 import campaigns_pb2 as pb
from rondo_protos.campaigns.v1 import campaigns_pb2_grpc
from services.campaigns.requests.control import ControlRequests
from services.campaigns.requests.definitions import DefinitionRequests
from services.campaigns.requests.messages import MessageRequests, Recipient
from services.campaigns.requests.runs import RunRequests

CAMPAIGN, TEMPLATE = "campaign", "template"


@dataclass
class Requests:
    """What the server stands on."""

    definitions: DefinitionRequests
    control: ControlRequests
    messages: MessageRequests
    runs: RunRequests


class CampaignsServicer(campaigns_pb2_grpc.CampaignsServiceServicer):
    """See campaigns.proto."""

    def __init__(self, requests: Requests):
        self._definitions = requests.definitions
        self._control = requests.control
        self._messages = requests.messages
        self._runs = requests.runs

    # definitions

    async def PutCampaign(self, r: pb.PutCampaignRequest, _: Any) -> pb.PutCampaignResponse:
        d, created = await self._definitions.put_campaign(r.workspace, r.id, r.body_json, r.actor, _if_version(r))
        return pb.PutCampaignResponse(campaign=self._shown(d), created=created)

    async def GetCampaign(self, r: pb.GetCampaignRequest, _: Any) -> pb.GetCampaignResponse:
        return pb.GetCampaignResponse(
            campaign=self._shown(self._definitions.get(r.workspace, CAMPAIGN, r.id, r.version))
        )

    async def ListCampaigns(self, r: pb.ListCampaignsRequest, _: Any) -> pb.ListCampaignsResponse:
        page, cursor = self._definitions.page(r.workspace, CAMPAIGN, r.limit, r.cursor)
        return pb.ListCampaignsResponse(campaigns=self._all(page), next_cursor=cursor)

    async def ListCampaignVersions(self, r: pb.ListCampaignVersionsRequest, _: Any) -> pb.ListCampaignVersionsResponse:
        found = self._definitions.versions(r.workspace, CAMPAIGN, r.id)
        return pb.ListCampaignVersionsResponse(versions=self._all(found))

    async def PutTemplate(self, r: pb.PutTemplateRequest, _: Any) -> pb.PutTemplateResponse:
        d, created = await self._definitions.put_template(r.workspace, r.id, r.body_json, r.actor, _if_version(r))
        return pb.PutTemplateResponse(template=self._shown(d), created=created)

    async def GetTemplate(self, r: pb.GetTemplateRequest, _: Any) -> pb.GetTemplateResponse:
        return pb.GetTemplateResponse(
            template=self._shown(self._definitions.get(r.workspace, TEMPLATE, r.id, r.version))
        )

    async def ListTemplates(self, r: pb.ListTemplatesRequest, _: Any) -> pb.ListTemplatesResponse:
        page, cursor = self._definitions.page(r.workspace, TEMPLATE, r.limit, r.cursor)
        return pb.ListTemplatesResponse(templates=self._all(page), next_cursor=cursor)

    async def ListTemplateVersions(self, r: pb.ListTemplateVersionsRequest, _: Any) -> pb.ListTemplateVersionsResponse:
        found = self._definitions.versions(r.workspace, TEMPLATE, r.id)
        return pb.ListTemplateVersionsResponse(versions=self._all(found))

    # control

    async def StartCampaign(self, r: pb.StartCampaignRequest, _: Any) -> pb.StartCampaignResponse:
        run_id = await self._control.start(r.workspace, r.campaign, r.idempotency_key, r.actor)
        return pb.StartCampaignResponse(run_id=run_id)

    async def PauseCampaign(self, r: pb.PauseCampaignRequest, _: Any) -> pb.PauseCampaignResponse:
        return pb.PauseCampaignResponse(status=await self._control.pause(r.workspace, r.campaign, r.actor))

    async def ResumeCampaign(self, r: pb.ResumeCampaignRequest, _: Any) -> pb.ResumeCampaignResponse:
        return pb.ResumeCampaignResponse(status=await self._control.resume(r.workspace, r.campaign, r.actor))

    async def CancelCampaign(self, r: pb.CancelCampaignRequest, _: Any) -> pb.CancelCampaignResponse:
        return pb.CancelCampaignResponse(status=await self._control.cancel(r.workspace, r.campaign, r.actor))

    # messages

    async def TriggerCampaign(self, r: pb.TriggerCampaignRequest, _: Any) -> pb.TriggerCampaignResponse:
        if sum((bool(r.recipients), bool(r.rule_json), r.broadcast)) > 1:
            detail = "exactly one of ids, recipients, broadcast"
            raise Problem(422, "invalid-request", "Whom to trigger?", detail, [invalid("", "invalid", detail)])
        if r.rule_json or r.broadcast:
            run_id = await self._messages.trigger_audience(
                r.workspace, r.campaign, r.rule_json, r.data_json, r.idempotency_key, r.actor
            )
            return pb.TriggerCampaignResponse(run_id=run_id)
        named = [Recipient(one.member_id, one.data_json) for one in r.recipients]
        run_id, accepted = await self._messages.trigger(
            r.workspace, r.campaign, named, r.data_json, r.idempotency_key, r.actor
        )
        return pb.TriggerCampaignResponse(run_id=run_id, accepted=accepted)

    async def Send(self, r: pb.SendRequest, _: Any) -> pb.SendResponse:
        touch_id = await self._messages.send(
            r.workspace, r.channel, r.member_id, r.template, r.content_json, r.data_json, r.idempotency_key, r.actor
        )
        return pb.SendResponse(touch_id=touch_id)

    # runs

    async def GetRun(self, r: pb.GetRunRequest, _: Any) -> pb.GetRunResponse:
        return pb.GetRunResponse(run_json=msgspec.json.encode(await self._runs.get(r.workspace, r.run_id)))

    async def ListRuns(self, r: pb.ListRunsRequest, _: Any) -> pb.ListRunsResponse:
        runs, cursor = await self._runs.list(r.workspace, r.campaign, r.limit, r.cursor)
        return pb.ListRunsResponse(runs_json=[msgspec.json.encode(run) for run in runs], next_cursor=cursor)

    def _shown(self, d: Definition) -> pb.Definition:
        return pb.Definition(id=d.id, version=d.version, body_json=self._definitions.body(d))

    def _all(self, definitions: Iterable[Definition]) -> list[pb.Definition]:
        return [self._shown(d) for d in definitions]


def _if_version(r: Any) -> int | None:
    return r.if_version if r.HasField("if_version") else None
