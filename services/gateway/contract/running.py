"""Runs, explanations, the inbox, imports."""

from services.gateway.contract.parts import (
    COUNT,
    ID,
    ID_TYPE,
    NUMBER,
    OBJECT,
    TEXT,
    TIME,
    Operation,
    Schema,
    array,
    mapped,
    nullable,
    obj,
    page,
    paged,
    some,
)
from services.gateway.contract.sending import DECISION, RUN

_CHANNEL: Schema = {"enum": ["email", "sms", "messaging"]}
_MESSAGE = obj(
    {"from": TEXT},
    id=TEXT,
    channel=TEXT,
    provider=TEXT,
    touch_id=nullable(TEXT),
    member_id=nullable(TEXT),
    campaign=nullable(TEXT),
    run_id=nullable(TEXT),
    to=TEXT,
    subject=nullable(TEXT),
    text=TEXT,
    html=nullable(TEXT),
    headers=mapped(TEXT),
    links=array(TEXT),
    sms_segments=nullable(COUNT),
    bytes=COUNT,
    received_at=TIME,
)
_ACTION: Schema = {"enum": ["reply", "open", "click", "scan", "bounce", "complain", "unsubscribe"]}
_ACT = some({"type": "object"}, text=TEXT, link={"type": "integer"})
_IMPORT = obj(
    import_id=TEXT, status={"enum": ["queued", "running", "finished", "failed"]}, rows=COUNT, accepted=COUNT,
    rejected=COUNT, rate_per_s=NUMBER, errors_url=TEXT,
)  # fmt: skip
_FORM = some(obj(file={"type": "string", "contentMediaType": "text/csv"}, mapping={"type": "string", "contentMediaType": "application/json"}),
             dry_run={"enum": ["true", "false"]})  # fmt: skip

OPERATIONS = {
    ("get", "/v1/runs"): Operation({200: page(RUN)}, {"campaign": TEXT, **paged(500)}),
    ("get", "/v1/runs/{id}"): Operation({200: RUN}),
    ("get", "/v1/explain"): Operation(
        {200: obj(status={"enum": ["recorded", "rebuilt", "hypothetical", "not_targeted"]}, as_of=TIME, decision=DECISION)},
        {"member": TEXT, "campaign": ID, "id_type": ID_TYPE, "at": TIME, "touch_id": TEXT,
         "source": {"enum": ["recorded", "rebuild"]}},
        required=("member", "campaign"),
        also=(501,),
    ),
    ("get", "/v1/inbox/messages"): Operation(
        {200: page(_MESSAGE)},
        {"channel": _CHANNEL, "to": TEXT, "run_id": TEXT, "campaign": TEXT, "since": TIME, "q": TEXT, **paged(500)},
    ),
    ("delete", "/v1/inbox/messages"): Operation({204: None}),
    ("get", "/v1/inbox/stats"): Operation(
        {200: obj(total=COUNT, distinct_touches=COUNT, repeats=COUNT, by_channel=mapped(COUNT))}
    ),
    ("get", "/v1/inbox/messages/{id}"): Operation({200: _MESSAGE}),
    ("get", "/v1/inbox/messages/{id}/raw"): Operation(
        {200: TEXT}, content_types=("message/rfc822", "application/octet-stream")
    ),
    ("post", "/v1/inbox/messages/{id}/{action}"): Operation(
        {202: obj(id=TEXT, action=TEXT, status=OBJECT | {"type": ["integer", "string", "null"]})},
        path={"action": _ACTION}, body=_ACT, body_required=False,
    ),
    ("post", "/v1/imports"): Operation({202: obj(import_id=TEXT)}, body=_FORM, body_type="multipart/form-data"),
    ("get", "/v1/imports/{id}"): Operation({200: _IMPORT}),
    ("get", "/v1/imports/{id}/errors"): Operation(
        {200: page(obj(row=COUNT, code=TEXT, pointer=TEXT, detail=TEXT))},
        {"cursor": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 500}},
    ),
}  # fmt: skip
