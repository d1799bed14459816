"""Health and reflection of every gRPC service, asked by stock clients that know none of our code."""

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support.spine_api import until

SERVING = health_pb2.HealthCheckResponse.SERVING
pytestmark = pytest.mark.e2e
OWN = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
ASK = {
    "profiles": ("rondo_protos.profiles.v1.ProfilesService", "ListMembers"),
    "segmentation": ("rondo_protos.segmentation.v1.SegmentationService", "List"),
    "campaigns": ("rondo_protos.campaigns.v1.CampaignsService", "ListCampaigns"),
    "rhythm": ("rondo_protos.rhythm.v1.RhythmService", "ListPolicies"),
    "insights": ("rondo_protos.insights.v1.InsightsService", "GetTimeline"),
    "community": ("rondo_protos.community.v1.CommunityService", "ListConversations"),
    "delivery-email": ("rondo_protos.delivery.v1.DeliveryService", "Render"),
    "delivery-sms": ("rondo_protos.delivery.v1.DeliveryService", "Render"),
    "delivery-messaging": ("rondo_protos.delivery.v1.DeliveryService", "Render"),
}
"""A call of each that needs nothing but a workspace (and, to render, a template)."""
ARGUMENTS = {"Render": {"channel": "sms", "template_json": "eyJzbXMiOnsidGV4dCI6ImhpIn19"}, "GetTimeline": {"member_ids": ["m"]}}  # fmt: skip


def serving(stack):
    return {name for name, entry in stack.state["services"].items() if entry.get("grpc")}


def test_every_grpc_service_is_asked(stack):
    assert serving(stack) == set(ASK)


@pytest.mark.parametrize("name", ASK)
def test_health(stack, name):
    with grpc.insecure_channel(stack.grpc(name)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", ASK[name][0]):
            asked = health_pb2.HealthCheckRequest(service=service)
            until(lambda asked=asked: health.Check(asked, timeout=10).status == SERVING, f"{name} to serve")
        seen = health.Watch(health_pb2.HealthCheckRequest(service=ASK[name][0]), timeout=60)
        assert any(answer.status == SERVING for answer in seen)
        with pytest.raises(grpc.RpcError) as e:
            health.Check(health_pb2.HealthCheckRequest(service="nobody.Knows"), timeout=10)
        assert e.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", ASK)
def test_reflection_is_enough_to_make_a_call(stack, name):
    service_name, method_name = ASK[name]
    with grpc.insecure_channel(stack.grpc(name)) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= OWN | {service_name}
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName(service_name).FindMethodByName(method_name)
        request = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict({"workspace": "reflected", **ARGUMENTS.get(method_name, {})}, request)
        answer_class = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{service_name}/{method_name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        answer = call(request, timeout=10)
    assert answer.DESCRIPTOR.full_name == method.output_type.full_name
    if method_name == "Render":
        assert json_format.MessageToDict(answer)["text"] == "hi"
