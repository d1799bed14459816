"""Segments and their rules, policies."""

from typing import Any

from services.gateway.contract.parts import (
    BOOLEAN,
    CHANNEL,
    COUNT,
    DURATION,
    ID,
    NUMBER,
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
)

_WORD: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
_OPERATOR: Schema = {
    "enum": [
        "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "exists", "not_exists",
        "before", "after", "within_last",
    ]
}  # fmt: skip
_WINDOW: dict[str, Schema] = {"within": DURATION, "between": array(TIME, minItems=2, maxItems=2)}
_ANY: Schema = {}


def _leaf(name: str, required: dict[str, Schema], **more: Schema) -> Schema:
    return closed(obj({name: closed(some(obj(required), **more))}))


_EVENT = {
    "where": array(ref("Condition"), maxItems=20),
    "measure": {"enum": ["count", "sum", "min", "max", "distinct", "first", "last"]},
    "property": _WORD,
    "operator": _OPERATOR,
    "value": _ANY,
    **_WINDOW,
}
_ONLY_EVENT = closed(obj(event=closed(some(obj(name=_WORD), where=_EVENT["where"]))))

_RULE: Schema = {
    "description": "Exactly one key; see docs/recipes/segments.md",
    "oneOf": [
        closed(obj({"and": array(ref("Rule"), minItems=1)})),
        closed(obj({"or": array(ref("Rule"), minItems=1)})),
        closed(obj({"not": ref("Rule")})),
        _leaf("trait", {"field": _WORD, "operator": _OPERATOR}, value=_ANY),
        _leaf("event", {"name": _WORD}, **_EVENT),
        _leaf(
            "message",
            {"action": TEXT},
            campaign=_WORD,
            actor=TEXT,
            measure=_EVENT["measure"],
            operator=_OPERATOR,
            value=_ANY,
            **_WINDOW,
        ),
        _leaf("consent", {"channel": CHANNEL, "topic": _WORD, "state": {"enum": ["granted", "denied"]}}),
        _leaf("reachable", {"channel": {"enum": ["email", "sms", "messaging"]}}),
        _leaf("segment", {"id": ID}),
        _leaf("bucket", {"seed": _WORD, "from": NUMBER, "to": NUMBER}),
        _leaf("sequence", {"first": _ONLY_EVENT, "within": DURATION}, then=_ONLY_EVENT, then_not=_ONLY_EVENT),
    ],
}
SCHEMAS: dict[str, Schema] = {
    "Rule": _RULE,
    "Condition": closed(some(obj(property=_WORD, operator=_OPERATOR), value=_ANY)),
}

_NEW = closed(some(obj(rule=ref("Rule")), name=nullable({"type": "string", "minLength": 1, "maxLength": 200})))
_SEGMENT = some(stored("name", "rule"), name=TEXT, rule=ref("Rule"), count=COUNT, progress=NUMBER,
                status={"enum": ["live", "backfilling"]})  # fmt: skip
_MEMBER = obj(member_id=UUID, user_id=nullable(TEXT))
_PREVIEW = obj(
    count=COUNT,
    anonymous=COUNT,
    as_of=TIME,
    exact=BOOLEAN,
    samples=array(_MEMBER),
    leaves=array(obj(pointer=TEXT, count=COUNT)),
    took_ms=COUNT,
)
_ASKED = closed(
    some(obj(rule=ref("Rule")), at=nullable(TIME), samples={"type": "integer", "minimum": 0, "maximum": 100})
)

_KINDS: Schema = {"enum": ["quiet_hours", "budget", "conflict"]}
_CHANNELS = array({"enum": ["*", "email", "sms", "messaging", "social"]}, minItems=1)
_POSITIVE: Schema = {"type": "number", "minimum": 0}
_DAY: Schema = {"enum": ["mo", "tu", "we", "th", "fr", "sa", "su"]}
_COMMON: dict[str, Any] = {"id": nullable(ID)}
_POLICY: Schema = {
    "anyOf": [
        closed(some(
            obj(windows=array(closed(obj({"days": array(_DAY, minItems=1), "from": TEXT, "to": TEXT})), minItems=1)),
            kind={"const": "quiet_hours"}, channels=_CHANNELS,
            classes=array({"enum": ["marketing", "transactional"]}, minItems=1),
            timezone=array({"enum": ["member", "phone_region", "workspace"]}, minItems=1), **_COMMON,
        )),
        closed(some(
            obj(limit=_POSITIVE, per=DURATION), kind={"const": "budget"}, channels=_CHANNELS,
            topics=array(TEXT, minItems=1), weights=mapped(_POSITIVE), min_gap=nullable(DURATION),
            on_exceed={"enum": ["defer", "skip"]}, **_COMMON,
        )),
        closed(some(
            {"type": "object"}, kind={"const": "conflict"},
            window=closed(some({"type": "object"}, triggered=DURATION, bulk=DURATION)),
            loser={"enum": ["defer", "skip"]}, **_COMMON,
        )),
    ]
}  # fmt: skip
_SHOWN = some(stored("kind"), kind=_KINDS)
_OF_KIND = {"kind": _KINDS}

OPERATIONS = {
    ("get", "/v1/segments"): Operation({200: page(_SEGMENT)}, paged(500)),
    ("post", "/v1/segments"): Operation({201: _SEGMENT}, body=_NEW, also=(501,)),
    ("put", "/v1/segments/{id}"): Operation(
        {200: _SEGMENT, 201: _SEGMENT}, path={"id": ID}, body=_NEW, if_match=True, also=(501,)
    ),
    ("get", "/v1/segments/{id}"): Operation({200: _SEGMENT}),
    ("delete", "/v1/segments/{id}"): Operation({204: None}),
    ("get", "/v1/segments/{id}/members"): Operation(
        {200: page(some(_MEMBER, entered_at=TIME, version=COUNT))}, paged(500)
    ),
    ("post", "/v1/segments/preview"): Operation({200: _PREVIEW}, body=_ASKED, also=(501,)),
    ("get", "/v1/policies"): Operation({200: page(_SHOWN)}),
    ("get", "/v1/policies/{kind}"): Operation({200: page(_SHOWN)}, path=_OF_KIND),
    ("get", "/v1/policies/{kind}/{id}"): Operation({200: _SHOWN}, path=_OF_KIND),
    ("put", "/v1/policies/{kind}/{id}"): Operation({200: _SHOWN}, path={**_OF_KIND, "id": ID}, body=_POLICY),
    ("delete", "/v1/policies/{kind}/{id}"): Operation({204: None}, path=_OF_KIND),
}
