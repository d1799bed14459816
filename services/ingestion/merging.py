"""How a batch's own context and integrations lie under those of its events. Pure.

Objects are merged key by key, as deep as both sides are objects; anywhere else the event's value
wins whole. Neither side is changed.
"""

from typing import Any


def merged(under: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `under`."""
    if not under:
        return own
    out = dict(under)
    for key, value in own.items():
        below = out.get(key)
        out[key] = merged(below, value) if type(value) is dict and type(below) is dict else value
    return out


def wanted(integrations: dict[str, Any]) -> bool:
    """Whether the caller wants Rondo to have this event: `{"All": false}` says no unless "Rondo" is
    named with true or options; `{"Rondo": false}` says no in any case (Segment's integrations object)."""
    own = integrations.get("Rondo")
    if own is not None:
        return own is not False
    return integrations.get("All", integrations.get("all", True)) is not False
