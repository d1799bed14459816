"""The router: whose event is it? Acts at the partition of the sender."""

from functools import lru_cache

from rondo_common import topics
from rondo_common.ids import identifier_id, member_key
from rondo_common.outcomes import Drop, Emit, Outcome, Save
from rondo_common.records import Event, Link
from services.profiles import dedupe
from services.profiles.handlers.case import Case, routed
from services.profiles.handlers.keeper import apply_event
from services.profiles.handlers.merging import merge_message
from services.profiles.model import ANONYMOUS, TIDY, USER, Member, Seen, Sender, Tidy, sender_key
from services.profiles.order import beats

MAX_LINKED = 100
"""Identifiers a sender remembers to have been linked to; linking again changes nothing."""

NOBODY = frozenset(
    ("-1", "none", "null", "nil", "nan", "undefined", "unknown", "anonymous", "guest", "user", "[object object]")
)
"""Values that faulty callers send for everybody. They identify a sender like any other value, but
nothing is linked by them: one bad line of code must not merge all members into one."""

_identifier = lru_cache(maxsize=65_536)(identifier_id)


def route(
    case: Case,
    event: Event,
    digest: bytes,
    slot: str,
    seen: Seen | None,
    sender: Sender | None,
    member: Member | None,
) -> list[Outcome]:
    """The outcomes of one event. `case` is for the member minted from the sender's own id, `member`
    its state; `sender` says when the events belong to another one."""
    admitted, cut = dedupe.admit(seen, digest, case.now)
    if admitted is None:
        return [Drop("duplicate")]
    out: list[Outcome] = [Save(slot, admitted)]
    if cut:
        out.append(Drop("dedupe_window_cut"))
    changed = sender
    if changed is not None and changed.member != event.sender:
        if member is None and beats(event.sender, case.minted, changed.member, changed.minted):
            # Linked before its first event, to a member that comes after it in the order: now that the
            # identifier was seen it counts, so that the winner does not depend on what came first.
            out.append(merge_message(case, event.sender, case.minted, changed.member, changed.minted))
            changed = Sender(event.sender, case.minted, changed.linked)
    elif member is not None and member.merged_into is not None:
        changed = Sender(member.merged_into, member.merged_minted, changed.linked if changed else [])
    if event.previous_id or (event.user_id and event.anonymous_id):
        changed = _link(case, event, changed, out)
    if changed is not None and changed is not sender:
        out.append(Save(sender_key(case.workspace, event.sender), changed))
    if changed is not None and changed.member != event.sender:
        out.append(routed(case, "event", changed.member, changed.minted, event=event))
    else:
        out.extend(apply_event(case, member, event))
    return out


def _link(case: Case, event: Event, sender: Sender | None, out: list[Outcome]) -> Sender | None:
    """Link what the event names beside its sender: the anonymous id of a known user; the previous id
    of an alias, which may be an anonymous or a user id."""
    now = sender if sender is not None else Sender(event.sender, case.minted)
    wanted = []
    if event.user_id and event.anonymous_id and links(event.anonymous_id):
        wanted.append((ANONYMOUS, event.anonymous_id))
    if event.type == "alias" and event.previous_id and links(event.previous_id):
        wanted += [(ANONYMOUS, event.previous_id), (USER, event.previous_id)]
    if not wanted or not links(event.user_id or event.anonymous_id or ""):
        return sender
    fresh = []
    for kind, value in wanted:
        identifier = _identifier(case.secret, kind, value)
        if identifier == event.sender or identifier in now.linked or identifier in fresh:
            continue
        fresh.append(identifier)
        link = Link("link", case.workspace, identifier, kind, now.member, event.timestamp, minted=now.minted)
        out.append(Emit(topics.LINKS, member_key(case.workspace, identifier), link, "profiles.link"))
    return Sender(now.member, now.minted, [*now.linked, *fresh][-MAX_LINKED:]) if fresh else sender


def links(value: str) -> bool:
    """Whether an identifier may link members: not one of NOBODY, nor only zeros and dashes."""
    return value.lower() not in NOBODY and bool(value.strip("0-"))


def tidy_due(now: int) -> int:
    """When message ids admitted at `now` may be looked through: the first midnight (UTC) at which all
    of that day's are forgotten."""
    day = 86_400_000
    return (now // day + 1) * day + dedupe.WINDOW_MS


def tidy(now: int) -> tuple[Save, int]:
    """Mark that this partition's Seen states are to be looked through; and when."""
    due = tidy_due(now)
    return Save(TIDY, Tidy(due)), due
