"""What the demo defines: segments, templates, campaigns, policies."""

from typing import Any

ORDER = "Order Completed"

SEGMENTS: dict[str, dict[str, Any]] = {
    "first-time": {
        "name": "Bought once",
        "rule": {"event": {"name": ORDER, "measure": "count", "operator": "eq", "value": 1}},
    },
    "loyal": {
        "name": "Three purchases in 90 days",
        "rule": {"event": {"name": ORDER, "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}},
    },
    "lapsing": {
        "name": "Bought twice or more, not for half a year",
        "rule": {
            "and": [
                {"event": {"name": ORDER, "measure": "count", "operator": "gte", "value": 2}},
                {"event": {"name": ORDER, "measure": "last", "operator": "before", "value": {"ago": "P180D"}}},
            ]
        },
    },
    "high-value": {
        "name": "Spent over 250 dollars",
        "rule": {"event": {"name": ORDER, "measure": "sum", "property": "total", "operator": "gt", "value": 250.004}},
    },
}
"""250.004: totals are whole cents, so the last bits of a sum decide nothing."""

_MJML = """<mjml><mj-body><mj-section><mj-column><mj-text>Hi {{ member.firstName | default: 'you' }}, %s</mj-text>
<mj-button href="https://shop.example/offers">Have a look</mj-button>
<mj-text><a href="{{ links.unsubscribe }}">Unsubscribe</a></mj-text></mj-column></mj-section></mj-body></mjml>"""


def _template(subject: str, words: str, french: str) -> dict[str, Any]:
    return {
        "default_locale": "en",
        "email": {"from": "Shop <hi@shop.example>", "subject": subject, "mjml": _MJML % words},
        "sms": {"text": f"Hi {{{{ member.firstName }}}}, {words}"},
        "messaging": {"text": f"Hi {{{{ member.firstName }}}}, {words}"},
        "locales": {"fr": {"sms": {"text": f"Salut {{{{ member.firstName }}}}, {french}"}}},
    }


TEMPLATES = {
    "spring": _template(
        "Spring records, {{ member.firstName | default: 'you' }}", "new records are in.", "les nouveautés sont là."
    ),
    "vip": _template("For our best listeners", "your early access is open.", "votre accès est ouvert."),
    "thanks": _template(
        "Your code {{ trigger.code }}", "your code is {{ trigger.code }}.", "votre code : {{ trigger.code }}."
    ),
    "cart": _template(
        "Still in your cart", "you left {{ event.product }} behind.", "vous avez oublié {{ event.product }}."
    ),
}

CHANNELS = ["email", "sms", "messaging"]
_MARKETING = {"class": "marketing", "topic": "offers", "channels": CHANNELS, "channel_rule": "first_reachable"}

CAMPAIGNS: dict[str, dict[str, Any]] = {
    "spring": {"type": "broadcast", **_MARKETING, "template": "spring", "audience": {"segment": "loyal"}, "schedule": {"at": "now"}},
    "vip": {"type": "broadcast", **_MARKETING, "template": "vip", "audience": {"segment": "high-value"}, "schedule": {"at": "now"}},
    "thanks": {"type": "triggered", "class": "transactional", "topic": "orders", "template": "thanks", "channels": ["email"], "trigger": {"api": True}},
    "cart": {
        "type": "triggered", "class": "marketing", "topic": "carts", "template": "cart", "channels": ["email"],
        "trigger": {"event": "Cart Abandoned", "where": [{"property": "total", "operator": "gte", "value": 20}]},
    },
}  # fmt: skip


def policies(start: str, end: str) -> dict[str, dict[str, Any]]:
    """Quiet hours from `start` to `end` wall time and one message a week, both for offers."""
    days = ["mo", "tu", "we", "th", "fr", "sa", "su"]
    return {
        "quiet_hours/night": {
            "kind": "quiet_hours", "id": "night", "channels": CHANNELS, "classes": ["marketing"],
            "windows": [{"days": days, "from": start, "to": end}], "timezone": ["member", "phone_region", "workspace"],
        },
        "budget/weekly": {
            "kind": "budget", "id": "weekly", "channels": ["*"], "topics": ["offers"], "limit": 1, "per": "P7D", "on_exceed": "defer",
        },
    }  # fmt: skip
