"""Workspaces, keys, webhooks, lag, the test clock, and what is not served yet."""

from services.gateway.access import SCOPES
from services.gateway.contract.parts import (
    BOOLEAN,
    ID,
    OBJECT,
    TEXT,
    TIME,
    Operation,
    Schema,
    array,
    closed,
    nullable,
    obj,
    page,
    some,
)
from services.gateway.routes.unserved import ADDRESSES

_SCOPE: Schema = {"enum": sorted(SCOPES)}
_KEY = obj(id=TEXT, name=TEXT, scopes=array(_SCOPE))
_URL: Schema = {"type": "string", "format": "uri", "pattern": "^https?://"}
_TYPE: Schema = {"type": "string", "pattern": r"^(\*|[a-z_]+\.(\*|[a-z_]+))$"}
_WEBHOOK = obj(id=TEXT, url=TEXT, types=array(TEXT))
_CLOCK = some(obj(frozen_time=TIME, status={"enum": ["advancing", "ready", "failed"]}), detail=TEXT)

OPERATIONS = {
    ("post", "/v1/workspaces"): Operation({201: obj(id=ID, keys=obj(write=TEXT, admin=TEXT))}, body=closed(obj(id=ID))),
    ("post", "/v1/keys"): Operation(
        {201: some(_KEY, key=TEXT)}, body=closed(obj(name=TEXT, scopes=array(_SCOPE, minItems=1)))
    ),
    ("get", "/v1/keys"): Operation({200: page(some(_KEY, prefix=TEXT, created_at=nullable(TIME)))}),
    ("delete", "/v1/keys/{id}"): Operation({204: None}),
    ("post", "/v1/webhooks"): Operation(
        {201: some(_WEBHOOK, secret=TEXT)}, body=closed(some(obj(url=_URL), types=array(_TYPE)))
    ),
    ("get", "/v1/webhooks"): Operation({200: page(some(_WEBHOOK, created_at=nullable(TIME)))}),
    ("post", "/v1/webhooks/{id}/rotate"): Operation(
        {201: obj(id=TEXT, secret=TEXT, old_secret_until=TIME)}, also=(412,)
    ),
    ("delete", "/v1/webhooks/{id}"): Operation({204: None}),
    ("get", "/v1/lag"): Operation({200: obj(drained=BOOLEAN, behind=OBJECT, under_way=OBJECT)}),
    ("get", "/v1/test-clock"): Operation({200: _CLOCK}, also=(409,)),
    ("post", "/v1/test-clock/advance"): Operation({202: _CLOCK}, body=closed(obj(frozen_time=TIME))),
    **{(method.lower(), path): Operation({}) for method, path in ADDRESSES},
}
