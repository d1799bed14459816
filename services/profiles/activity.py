"""What an event leaves in a fragment besides traits: who, when, how often. Pure."""

from copy import copy

import msgspec

from rondo_common.records import Event
from services.profiles.fragments import recent
from services.profiles.model import MAX_GROUPS, MAX_IDENTIFIERS, MAX_NAMES, Fragment

COUNTED = {"page": "$page", "screen": "$screen"}
"""Name under which an event is counted, where it is not its own."""


class _Context(msgspec.Struct):
    traits: dict[str, msgspec.Raw] | None = None


_context = msgspec.json.Decoder(_Context).decode
_traits = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def traits_of(event: Event) -> dict[str, msgspec.Raw]:
    """Traits that an event states: those of its context (any call may carry them), under those of an
    identify. ValueError when they are not an object."""
    found: dict[str, msgspec.Raw] = {}
    if event.context is not None:
        context = bytes(event.context)
        if b'"traits"' in context:
            found = _context(context).traits or {}
    if event.type == "identify" and event.traits is not None and bytes(event.traits) != b"null":
        own = _traits(event.traits)
        found = {**found, **own} if found else own
    return found


def noted(fragment: Fragment, event: Event, at: int, now: int, drops: list[str]) -> tuple[Fragment, bool]:
    """A new fragment with the event's activity, identifiers and group; and whether anything but the
    activity changed. Track, page and screen are counted. `at`: event time, `now`: log time (ms)."""
    f = copy(fragment)
    f.revision += 1
    f.created = now if f.created is None or now < f.created else f.created
    f.updated = now if f.updated is None or now > f.updated else f.updated
    f.first = at if f.first is None or at < f.first else f.first
    f.last = at if f.last is None or at > f.last else f.last
    changed = False
    kind = event.type
    name = event.event or "" if kind == "track" else COUNTED.get(kind)
    if name is not None:
        f.events += 1
        n, last = f.counts.get(name, (0, at))
        f.counts = {**f.counts, name: (n + 1, max(at, last))}
        if len(f.counts) > MAX_NAMES:
            f.counts = recent(f.counts)
    elif kind == "group" and event.group_id and f.groups.get(event.group_id, at - 1) < at:
        if event.group_id not in f.groups and len(f.groups) >= MAX_GROUPS:
            drops.append("too_many_groups")
        else:
            changed = event.group_id not in f.groups
            f.groups = {**f.groups, event.group_id: at}
    if event.user_id and f.user_ids.get(event.user_id, at + 1) > at:
        f.user_ids, new = _with(f.user_ids, event.user_id, at, drops)
        changed = changed or new
    if event.anonymous_id and f.anonymous_ids.get(event.anonymous_id, at + 1) > at:
        f.anonymous_ids, new = _with(f.anonymous_ids, event.anonymous_id, at, drops)
        changed = changed or new
    return f, changed


def _with(ids: dict[str, int], value: str, at: int, drops: list[str]) -> tuple[dict[str, int], bool]:
    """`ids` with one more, first seen at `at`; and whether a reader could see a difference."""
    if value not in ids and len(ids) >= MAX_IDENTIFIERS:
        drops.append("too_many_identifiers")
        return ids, False
    return {**ids, value: at}, value not in ids or len(ids) > 1
