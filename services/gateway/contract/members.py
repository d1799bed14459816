"""Members, segments they are in, conversations."""

from services.gateway.contract.parts import (
    BOOLEAN,
    CHANNEL,
    COUNT,
    ID_TYPE,
    NUMBER,
    OBJECT,
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
    some,
)

_WHO = {"id_type": ID_TYPE}
_AT: dict[str, Schema] = {"at": TIME}
_CONSENT = obj(channel=TEXT, topic=TEXT, state={"enum": ["granted", "denied"]}, since=TIME, event_id=TEXT)
_MEMBER = obj(
    member_id=UUID,
    user_id=nullable(TEXT),
    anonymous=BOOLEAN,
    merged_from=array(UUID),
    user_ids=array(TEXT),
    anonymous_ids=array(TEXT),
    traits=OBJECT,
    groups=array(TEXT),
    consents=array(some(obj(channel=TEXT, topic=TEXT), state=TEXT)),
    suppressions=array(OBJECT),
    first_seen=nullable(TIME),
    last_seen=nullable(TIME),
    events=COUNT,
    event_counts=mapped(COUNT),
)
_WALL: Schema = {"type": "string", "pattern": r"^\d\d:\d\d$"}
_BUDGET = obj(
    policy=TEXT, limit=NUMBER, per_s=COUNT, min_gap_s=COUNT, used=NUMBER, left=NUMBER, channels=array(TEXT),
    topics=array(TEXT), frees_at=mapped(nullable(TIME)),
)  # fmt: skip
_CONVERSATION = obj(
    id=TEXT,
    status={"enum": ["open", "closed"]},
    channel=TEXT,
    member_id=UUID,
    opened_at=TIME,
    first_response_s=nullable(NUMBER),
    assignee=nullable(TEXT),
    messages=array(obj(direction={"enum": ["in", "out"]}, text=TEXT, at=TIME, touch_id=nullable(TEXT))),
)
_LEAVES = array(obj(pointer=TEXT, value=BOOLEAN, inputs=OBJECT))
_EXPLAINED = obj({"in": BOOLEAN}, segment=TEXT, as_of=TIME, valid_until=nullable(TIME), leaves=_LEAVES)

OPERATIONS = {
    ("get", "/v1/members/{id}"): Operation({200: _MEMBER}, _WHO),
    ("get", "/v1/members/{id}/timeline"): Operation(
        {200: page(obj(at=TIME, kind=TEXT, source=TEXT, data=OBJECT))}, _WHO | paged(500)
    ),
    ("get", "/v1/members/{id}/decisions"): Operation(
        {200: page(obj(decision_id=TEXT, verdict=TEXT, gates=array(OBJECT)))},
        _WHO | paged(500) | {"campaign": TEXT},
    ),
    ("get", "/v1/members/{id}/budget"): Operation(
        {200: obj(as_of=TIME, member_id=UUID, policies=array(_BUDGET), entries=array(OBJECT))}, _WHO
    ),
    ("get", "/v1/members/{id}/consent"): Operation({200: obj(as_of=TIME, consents=array(_CONSENT))}, _WHO | _AT),
    ("put", "/v1/members/{id}/consent"): Operation(
        {202: obj(event_id=TEXT, recorded_at=TIME)},
        _WHO,
        body=closed(
            some(
                obj(channel=CHANNEL, topic={"type": "string", "minLength": 1, "maxLength": 64},
                    state={"enum": ["granted", "denied"]}),
                text_version=nullable(TEXT), source=nullable(TEXT), ip=nullable(TEXT), timestamp=nullable(TIME),
            )
        ),
    ),
    ("put", "/v1/members/{id}/preferences"): Operation(
        {202: obj(member_id=UUID, accepted_at=TIME)},
        _WHO,
        body=closed(
            {
                "type": "object",
                "properties": {
                    "tempo": nullable(mapped(TEXT)),
                    "paused_until": nullable(TIME),
                    "quiet_hours": nullable(closed(obj({"from": _WALL, "to": _WALL}))),
                    "channels": nullable(array(TEXT)),
                },
            }
        ),
    ),
    ("get", "/v1/members/{id}/segments"): Operation(
        {200: {"anyOf": [page(obj(segment=TEXT, entered_at=TIME, version=COUNT)), _EXPLAINED]}},
        _WHO | _AT | {"explain": TEXT},
    ),
    ("get", "/v1/conversations"): Operation(
        {200: page(_CONVERSATION)}, {"member": TEXT, "status": {"enum": ["open", "closed"]}, **_WHO, **paged(500)}
    ),
    ("get", "/v1/conversations/{id}"): Operation({200: _CONVERSATION}),
    ("post", "/v1/conversations/{id}/reply"): Operation(
        {202: obj(conversation_id=TEXT, touch_id=UUID)},
        body=closed(obj(text={"type": "string", "minLength": 1, "maxLength": 4096})),
    ),
    ("post", "/v1/conversations/{id}/close"): Operation({200: _CONVERSATION}),
}  # fmt: skip
