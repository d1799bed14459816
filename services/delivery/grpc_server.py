"""gRPC Delivery: Render (POST /v1/templates/{id}/render) and Status."""

from collections.abc import Callable
from typing import Any

import msgspec

from rondo_common.problems import Problem, invalid
from rondo_common.settings import Settings
from rondo_common.sms import segments
from rondo_protos.delivery.v1 import delivery_pb2, delivery_pb2_grpc
from services.delivery.handlers.parts import Parts
from services.delivery.members import ADDRESS_KIND
from services.delivery.render.liquid import Aborted, TemplateError, gaps
from services.delivery.render.renderer import Renderer


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """`status` gives the effector's figures."""

    def __init__(self, parts: Parts, settings: Settings, status: Callable[[], dict[str, Any]]):
        self._parts = parts
        self._status = status
        self._renderers = {c: Renderer(c, settings.secret, settings.url_links, "") for c in ADDRESS_KIND}

    async def Render(self, request: delivery_pb2.RenderRequest, context: Any) -> delivery_pb2.RenderResponse:
        renderer = self._renderers.get(request.channel)
        if renderer is None:
            known = ", ".join(self._renderers)
            raise Problem(
                422,
                "invalid-request",
                "There is no such channel",
                errors=[invalid("/channel", "unknown_channel", known)],
            )
        body = _object(request.template_json, "/template")
        profile = _object(request.profile_json, "/member")
        traits = profile.get("traits")
        traits = traits if isinstance(traits, dict) else {}
        locale = request.locale or traits.get("locale")
        variables = {
            "member": traits,
            "trigger": _object(request.data_json, "/data"),
            "event": _object(request.event_json, "/event"),
            "campaign": _object(request.campaign_json, "/campaign"),
        }
        missing: dict[str, None] = {}
        token = gaps.set(missing)
        try:
            compiled, rendered = renderer.preview(
                body,
                locale if isinstance(locale, str) else None,
                variables,
                request.workspace,
                str(profile.get("member_id") or ""),
            )
        except Aborted as e:
            return delivery_pb2.RenderResponse(aborted=str(e) or "template_abort", missing=list(missing))
        except TemplateError as e:
            raise Problem(
                422,
                "invalid-template",
                "The template can't be rendered",
                str(e),
                errors=[invalid(f"/{request.channel}", "template_error", str(e))],
            ) from e
        finally:
            gaps.reset(token)
        return delivery_pb2.RenderResponse(
            subject=rendered.subject,
            html=rendered.html,
            text=rendered.text,
            sender=rendered.sender,
            missing=list(missing),
            segments=segments(rendered.text) if request.channel == "sms" else 0,
            locale=compiled.locale,
        )

    async def Status(self, request: delivery_pb2.StatusRequest, context: Any) -> delivery_pb2.StatusResponse:
        return delivery_pb2.StatusResponse(channel=self._parts.channel, provider=self._parts.provider, **self._status())


def _object(data: bytes, pointer: str) -> dict[str, Any]:
    if not data:
        return {}
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as e:
        raise Problem(400, "invalid-json", "Not JSON", str(e), errors=[invalid(pointer, "invalid_json", str(e))]) from e
    if not isinstance(found, dict):
        raise Problem(422, "invalid-request", "Not an object", errors=[invalid(pointer, "not_an_object", "an object")])
    return found
