"""Examples, told as one small story: they stand in the document, and the conformance test sends them."""

from typing import Any

IDS = {
    "members": "u1",
    "segments": "loyal",
    "templates": "spring",
    "campaigns": "spring",
    "runs": "r1",
    "conversations": "c1",
    "messages": "i1",
    "budget": "weekly",
    "quiet_hours": "sms-night",
    "conflict": "default",
}
"""An id by the noun (or the kind of policy) before it in the path."""

_RULE = {"trait": {"field": "plan", "operator": "eq", "value": "gold"}}
_OFTEN = {"event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
_SEGMENT = {"name": "Loyal", "rule": {"or": [_RULE, _OFTEN]}}
_TEMPLATE = {
    "default_locale": "en",
    "email": {"from": "Shop <hi@example.com>", "subject": "Hi {{ member.firstName | default: 'you' }}",
              "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>{{ trigger.code }}</mj-text></mj-column></mj-section></mj-body></mjml>"},
    "sms": {"text": "Hi {{ member.firstName }}"},
    "locales": {"fr": {"sms": {"text": "Salut"}}},
}  # fmt: skip
_CAMPAIGN = {
    "type": "broadcast", "class": "marketing", "topic": "offers", "tags": ["promo"], "template": "spring",
    "channels": ["email", "sms"], "channel_rule": "first_reachable", "priority": 50, "expires_after": "P2D",
    "audience": {"segment": "loyal"}, "schedule": {"at": "now"},
    "goal": {"event": "Order Completed", "within": "P7D", "target": 500},
}  # fmt: skip

BODIES: dict[tuple[str, str], Any] = {
    ("put", "/v1/members/{id}/consent"): {"channel": "email", "topic": "offers", "state": "granted",
                                          "text_version": "2026-01", "source": "signup form", "ip": "203.0.113.7"},
    ("put", "/v1/members/{id}/preferences"): {"tempo": {"news": "daily"}, "quiet_hours": {"from": "20:00", "to": "09:00"},
                                              "channels": ["sms", "email"]},
    ("post", "/v1/conversations/{id}/reply"): {"text": "At nine."},
    ("post", "/v1/segments"): _SEGMENT,
    ("put", "/v1/segments/{id}"): _SEGMENT,
    ("post", "/v1/segments/preview"): {"rule": _RULE, "at": "2026-11-20T12:00:00Z", "samples": 10},
    ("put", "/v1/policies/{kind}/{id}"): {"channels": ["*"], "topics": ["*"], "limit": 3, "per": "P7D",
                                          "weights": {"sms": 2, "email": 1}, "min_gap": "PT4H", "on_exceed": "defer"},
    ("post", "/v1/templates"): _TEMPLATE,
    ("put", "/v1/templates/{id}"): _TEMPLATE,
    ("post", "/v1/templates/{id}/render"): {"member": "u1", "channel": "email", "data": {"code": "X1"}},
    ("post", "/v1/campaigns"): _CAMPAIGN,
    ("put", "/v1/campaigns/{id}"): _CAMPAIGN,
    ("post", "/v1/campaigns/{id}/triggers"): {"data": {"code": "X1"}, "ids": ["u1", "u2"]},
    ("post", "/v1/campaigns/trigger/send"): {
        "campaign_id": "cart", "recipients": [{"external_user_id": "u1", "trigger_properties": {"code": "X1"}}]},
    ("post", "/v1/send/{channel}"): {"template": "receipt", "to": {"id": "u1"}, "data": {}},
    ("post", "/v1/inbox/messages/{id}/{action}"): {"text": "STOP"},
    ("post", "/v1/workspaces"): {"id": "other"},
    ("post", "/v1/keys"): {"name": "crm", "scopes": ["campaigns:write"]},
    ("post", "/v1/webhooks"): {"url": "https://crm.example.com/rondo", "types": ["message.*"]},
    ("post", "/v1/test-clock/advance"): {"frozen_time": "2027-03-28T03:00:00Z"},
}  # fmt: skip
"""A body by (method, path)."""


def example_id(path: str, name: str) -> str | None:
    """What to put for `{name}` in `path`; None when there is nothing to tell."""
    parts = path.split("/")
    at = parts.index("{" + name + "}")
    return {"kind": "budget", "channel": "email", "action": "open"}.get(name) or IDS.get(
        IDS_OF_KIND.get(parts[at - 1], parts[at - 1])
    )


IDS_OF_KIND = {"{kind}": "budget"}
"""The example's kind of policy."""
