"""Templates, campaigns, and what makes them send."""

from services.gateway import bodies
from services.gateway.contract.parts import (
    CHANNEL,
    COUNT,
    DURATION,
    ID,
    OBJECT,
    SERVED_CHANNEL,
    TEXT,
    TIME,
    UUID,
    Operation,
    Schema,
    array,
    closed,
    mapped,
    nullable,
    obj,
    page,
    paged,
    ref,
    some,
    stored,
    struct,
)

_MAIL: dict[str, Schema] = {
    k: nullable(TEXT) for k in ("from", "mjml", "html", "text", "reply_to", "preheader")
}  # fmt: skip
_TEXT_PART = closed(obj(text=TEXT))
_TEMPLATE = closed(
    some(
        {"type": "object"},
        default_locale=TEXT,
        name=nullable(TEXT),
        description=nullable(TEXT),
        email=nullable(closed(some(obj(subject=TEXT), **_MAIL))),
        sms=nullable(_TEXT_PART),
        messaging=nullable(_TEXT_PART),
        locales=mapped(
            closed(
                some(
                    {"type": "object"},
                    email=nullable(closed(some({"type": "object"}, subject=nullable(TEXT), **_MAIL))),
                    sms=nullable(_TEXT_PART),
                    messaging=nullable(_TEXT_PART),
                )
            )
        ),
    )
)
_EVENT = closed(some(obj(event=TEXT), where=array(ref("Condition"), maxItems=20)))
_CAMPAIGN = closed(
    some(
        {
            "type": "object",
            "required": ["type", "class", "template", "channels"],
            "properties": {
                "type": {"enum": ["broadcast", "triggered", "recurring", "journey"]},
                "class": {"enum": ["marketing", "transactional"]},
            },
        },
        template=ID,
        channels=array(CHANNEL, minItems=1),
        topic=TEXT,
        name=nullable(TEXT),
        description=nullable(TEXT),
        tags=array(TEXT),
        channel_rule={"enum": ["first_reachable", "preferred", "all"]},
        priority={"type": "integer", "minimum": 0, "maximum": 1000},
        value={"type": "number", "minimum": 0},
        expires_after=nullable(DURATION),
        audience=nullable(closed(some({"type": "object"}, segment=nullable(ID), rule=nullable(ref("Rule"))))),
        schedule=nullable(some({"type": "object"}, at=TEXT)),
        goal=nullable(closed(some(obj(event=TEXT), within=DURATION, where=array(ref("Condition")),
                                  target=nullable({"type": "number"})))),
        trigger=nullable(closed(some({"type": "object"}, event=nullable(TEXT), where=array(ref("Condition")),
                                     segment=nullable(ID), on=nullable({"enum": ["entered", "left"]}),
                                     api=nullable({"type": "boolean"}), delay=nullable(DURATION),
                                     cancel_on=nullable(_EVENT), max_age=nullable(DURATION)))),
        reentry=nullable({"anyOf": [{"enum": ["once", "always"]}, closed(obj(after=DURATION))]}),
    )
)  # fmt: skip
_KEPT_TEMPLATE = some(stored(), default_locale=TEXT)
_KEPT_CAMPAIGN = some(stored("type", "class", "channels", "status"), status=TEXT, run_id=TEXT)
_RENDERED = some(obj(channel=SERVED_CHANNEL, subject=nullable(TEXT), html=nullable(TEXT), text=TEXT,
                     missing=array(TEXT)), sms_segments=COUNT, aborted=TEXT)  # fmt: skip
_STATE = obj(campaign=TEXT, status=TEXT)

_trigger, _1 = struct(bodies.Trigger)
_braze, _2 = struct(bodies.BrazeTrigger)
_send, _3 = struct(bodies.Send)
_render, _4 = struct(bodies.Render)
SCHEMAS: dict[str, Schema] = {"Template": _TEMPLATE, "Campaign": _CAMPAIGN, **_1, **_2, **_3, **_4}
_PUT_CAMPAIGN = Operation({200: _KEPT_CAMPAIGN, 201: _KEPT_CAMPAIGN}, path={"id": ID}, body=ref("Campaign"), if_match=True, also=(501,))  # fmt: skip

OPERATIONS = {
    ("get", "/v1/templates"): Operation({200: page(_KEPT_TEMPLATE)}, paged(500)),
    ("post", "/v1/templates"): Operation({201: _KEPT_TEMPLATE}, body=ref("Template")),
    ("put", "/v1/templates/{id}"): Operation(
        {200: _KEPT_TEMPLATE, 201: _KEPT_TEMPLATE}, path={"id": ID}, body=ref("Template"), if_match=True
    ),
    ("get", "/v1/templates/{id}"): Operation({200: _KEPT_TEMPLATE}),
    ("get", "/v1/templates/{id}/versions"): Operation({200: page(_KEPT_TEMPLATE)}),
    ("post", "/v1/templates/{id}/render"): Operation({200: _RENDERED}, body=_render),
    ("get", "/v1/campaigns"): Operation({200: page(_KEPT_CAMPAIGN)}, paged(500)),
    ("post", "/v1/campaigns"): Operation({201: _KEPT_CAMPAIGN}, body=ref("Campaign"), also=(501,)),
    ("put", "/v1/campaigns/{id}"): _PUT_CAMPAIGN,
    ("get", "/v1/campaigns/{id}"): Operation({200: _KEPT_CAMPAIGN}),
    ("get", "/v1/campaigns/{id}/versions"): Operation({200: page(stored("type"))}),
    ("post", "/v1/campaigns/{id}/start"): Operation({202: obj(run_id=TEXT)}),
    ("post", "/v1/campaigns/{id}/pause"): Operation({200: _STATE}),
    ("post", "/v1/campaigns/{id}/resume"): Operation({200: _STATE}),
    ("post", "/v1/campaigns/{id}/cancel"): Operation({200: _STATE}),
    ("post", "/v1/campaigns/{id}/triggers"): Operation(
        {202: obj(run_id=TEXT, accepted=COUNT, unknown=array(TEXT))}, body=_trigger, also=(501,)
    ),
    ("post", "/v1/campaigns/trigger/send"): Operation({201: obj(dispatch_id=TEXT, message=TEXT)}, body=_braze),
    ("post", "/v1/send/{channel}"): Operation({202: obj(touch_id=UUID)}, path={"channel": SERVED_CHANNEL}, body=_send),
}

_BUCKETS = ("pending", "deferred", "queued", "sent", "skipped", "failed", "unknown")
RUN = obj(
    run_id=TEXT, campaign=TEXT, version=COUNT,
    status={"enum": ["scheduled", "running", "paused", "cancelled", "finished"]},
    started_at=TIME, finished_at=nullable(TIME), audience=COUNT, touches=COUNT,
    counts=obj({b: COUNT for b in _BUCKETS}), reasons=mapped(mapped(COUNT)), engagement=mapped(COUNT),
    rate_per_s=nullable({"type": "number"}), eta_s=nullable({"type": "integer"}),
)  # fmt: skip
DECISION = some(obj(verdict={"enum": ["send", "defer", "skip"]}, gates=array(obj(gate=TEXT, verdict=TEXT))),
                reason=nullable(TEXT), inputs=OBJECT)  # fmt: skip
