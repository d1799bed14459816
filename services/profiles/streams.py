"""The profiles stage: which states an input touches, and which handler decides it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from rondo_common import topics
from rondo_common.clock import from_iso
from rondo_common.ids import member_key, workspace_secret
from rondo_common.outcomes import Drop, Outcome, Save, SetTimer, StartSweep
from rondo_common.records import Command, Delivery, Engagement, Event, Inbound, Link, Routed
from rondo_common.stage import Input, Record, States, SweepItem, Timer, Touches
from services.profiles import claims, dedupe
from services.profiles.handlers import keeper, merging, router, statements
from services.profiles.handlers.case import Case, routed
from services.profiles.model import ANONYMOUS, TIDY, TYPES, USER, claim_key, member_state, sender_key

_NOTHING = Touches()
_ASKED = ("unsubscribed", "preferences")
"""Kinds of engagement that say what a member wants."""
_COMMANDS = ("member.suppress", "member.preferences")
_DECODE: dict[str, Callable[[bytes], Any]] = {
    topic: msgspec.json.Decoder(kind).decode
    for topic, kind in (
        (topics.EVENTS, Event),
        (topics.LINKS, Link),
        (topics.ROUTED, Routed),
        (topics.INBOUND, Inbound),
        (topics.DELIVERIES, Delivery),
        (topics.ENGAGEMENT, Engagement),
        (topics.COMMANDS, Command),
    )
}


class Arrived(NamedTuple):
    """An event with what is asked more than once: the digest of its message id, and the state keys of
    that digest's slot, of its sender as a member and of its sender."""

    event: Event
    digest: bytes
    keys: tuple[str, str, str]


def _arrived(event: Event) -> Arrived:
    ws, sender = event.workspace, event.sender
    digest = dedupe.digest(event.message_id)
    return Arrived(
        event, digest, (dedupe.slot_key(ws, sender, digest), member_state(ws, sender), sender_key(ws, sender))
    )


class ProfilesStage:
    """Router and keeper (STREAMS 16). `secret` is the installation's master secret: ids of identifiers
    follow from it."""

    name = "profiles"
    state_topic = topics.IDENTITIES
    state_offset = 0
    lanes: Sequence[Sequence[str]] = (
        (topics.LINKS, topics.ROUTED),
        (topics.INBOUND, topics.DELIVERIES, topics.ENGAGEMENT, topics.COMMANDS),
        (topics.EVENTS,),
    )
    unhurried = frozenset((topics.DELIVERIES,))
    wall_clock = False
    types: dict[str, type] = TYPES
    indexed = frozenset(("m", "d"))
    """Kinds of state that are listed: members by gRPC, message ids by the sweep."""

    def __init__(self, secret: str):
        self.lane_limit: dict[int, int] = {}
        self._secret = secret

    def read(self, record: Record) -> Any:
        if _said_not_mine(record):
            return Drop("not_mine")
        message = _DECODE[record.topic](record.value)
        return _arrived(message) if type(message) is Event else message

    def touches(self, item: Input, message: Any) -> Touches:
        if type(item) is SweepItem:
            return Touches(None, (item.key,))
        if type(item) is not Record:
            return _NOTHING
        kind = type(message)
        if kind is Arrived:
            return Touches(None, message.keys)
        ws = message.workspace
        if kind is Routed:
            return Touches(None, (member_state(ws, message.member_id),))
        if kind is Link:
            identifier = message.identifier_id
            if message.kind == "claim":
                return Touches(None, (claim_key(ws, identifier),))
            return Touches(None, (sender_key(ws, identifier), member_state(ws, identifier)))
        if kind is Inbound:
            owner, place = _owner(item, message)
            return Touches(None, (dedupe.slot_key(ws, owner, dedupe.digest(message.id)), place(ws, owner)))
        if _not_mine(message) is not None:
            return _NOTHING
        return Touches(None, (member_state(ws, message.member_id),))

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if type(item) is Record:
            kind = type(message)
            if kind is Arrived:
                return self._event(item, message, states, now)
            if kind is Routed:
                return self._routed(message, states, now)
            if kind is Link:
                return self._link(item, message, states, now)
            if kind is Inbound:
                return self._inbound(item, message, states, now)
            return self._statement(item, message, states, now)
        if type(item) is Timer:
            return [Save(TIDY, None), StartSweep("tidy", "d:")]
        if type(item) is SweepItem:
            seen = states.get(item.key)
            left = dedupe.pruned(seen, now) if seen is not None else None
            return [] if left is seen else [Save(item.key, left)]
        return []

    def _case(self, message: Any, member_id: str, minted: str, cause: str, now: int, hops: int = 0) -> Case:
        ws = message.workspace
        return Case(ws, member_id, minted, cause, now, hops, workspace_secret(self._secret, ws))

    def _event(self, item: Record, arrived: Arrived, states: States, now: int) -> list[Outcome]:
        event = arrived.event
        sender = event.sender
        if item.key != member_key(event.workspace, sender):
            raise ValueError("the record's key is not that of its sender")
        slot, own, link = arrived.keys
        case = self._case(
            event,
            sender,
            USER if event.user_id is not None else ANONYMOUS,
            f"{item.topic}:{item.partition}:{item.offset}",
            now,
        )
        out = router.route(
            case,
            event,
            arrived.digest,
            slot,
            states.get(slot),
            states.get(link),
            states.get(own),
        )
        return self._tidied(states, now, out)

    def _tidied(self, states: States, now: int, out: list[Outcome]) -> list[Outcome]:
        """With the timer that has old message ids deleted, where none is set in the partition."""
        if states.get(TIDY) is None:
            mark, due = router.tidy(now)
            out += [mark, SetTimer("tidy", "tidy", due)]
        return out

    def _routed(self, m: Routed, states: States, now: int) -> list[Outcome]:
        case = self._case(m, m.member_id, m.minted, m.cause, now, m.hops)
        member = states.get(member_state(m.workspace, m.member_id))
        match m.kind:
            case "event" if m.event is not None:
                return keeper.apply_event(case, member, m.event)
            case "merge" if m.winner is not None:
                return merging.merge(case, member, m.winner, m.winner_minted)
            case "absorb":
                return merging.absorb(case, member, m)
            case "inbound" if m.inbound is not None:
                return statements.inbound(case, member, m.inbound)
            case "delivery" if m.delivery is not None:
                return statements.delivery(case, member, m.delivery)
            case "engagement" if m.engagement is not None:
                return statements.engagement(case, member, m.engagement)
            case "command" if m.command is not None:
                return statements.command(case, member, m.command)
        raise ValueError(f"a routed {m.kind!r} without its content")

    def _link(self, item: Record, m: Link, states: States, now: int) -> list[Outcome]:
        ws, identifier = m.workspace, m.identifier_id
        if m.kind == "claim":
            key = claim_key(ws, identifier)
            after = claims.stated(states.get(key), m.member_id, from_iso(m.at), m.held)
            return [Drop("claimed_already") if after is None else Save(key, after)]
        case = self._case(m, m.member_id, m.minted, item.cause, now)
        return merging.link(case, m, states.get(sender_key(ws, identifier)), states.get(member_state(ws, identifier)))

    def _inbound(self, item: Record, m: Inbound, states: States, now: int) -> list[Outcome]:
        """First sight of a message from outside: once, then to the member who wrote it."""
        ws = m.workspace
        owner, place = _owner(item, m)
        digest = dedupe.digest(m.id)
        slot = dedupe.slot_key(ws, owner, digest)
        admitted, _ = dedupe.admit(states.get(slot), digest, now)
        if admitted is None:
            return [Drop("duplicate")]
        held = states.get(place(ws, owner))
        member_id = m.member_id or claims.holder(held)
        if member_id is None:
            return [Drop("unknown_address")]
        case = self._case(m, member_id, ANONYMOUS, f"inbound:{ws}:{m.id}", now)
        if place is member_state:
            out = statements.inbound(case, held, m)
        else:
            out = [routed(case, "inbound", member_id, ANONYMOUS, inbound=m)]
            if m.keyword == "stop":
                out += [statements.stop_too(case, other, m) for other in claims.holders(held) if other != member_id]
        return self._tidied(states, now, [Save(slot, admitted), *out])

    def _statement(self, item: Record, m: Delivery | Engagement | Command, states: States, now: int) -> list[Outcome]:
        reason = _not_mine(m)
        if reason is not None:
            return [Drop(reason)]
        member_id = m.member_id or ""
        case = self._case(m, member_id, ANONYMOUS, item.cause, now)
        member = states.get(member_state(m.workspace, member_id))
        if type(m) is Delivery:
            return statements.delivery(case, member, m)
        if type(m) is Engagement:
            return statements.engagement(case, member, m)
        return statements.command(case, member, m)  # type: ignore[arg-type]


def _owner(item: Record, m: Inbound) -> tuple[str, Callable[[str, str], str]]:
    """Whose partition an inbound message came to, the member's or its address's, and that one's state."""
    if m.member_id is not None and item.key == member_key(m.workspace, m.member_id):
        return m.member_id, member_state
    return m.address_id, claim_key


def _said_not_mine(record: Record) -> bool:
    """Whether the header of a delivery or an engagement tells already that it is not about facts."""
    if record.topic == topics.DELIVERIES:
        status = record.said("delivery")
        return bool(status) and status not in statements.SUPPRESSING
    if record.topic == topics.ENGAGEMENT:
        kind = record.said("engagement")
        return bool(kind) and kind not in _ASKED
    return False


def _not_mine(message: Delivery | Engagement | Command) -> str | None:
    """Why a record that is not about a member's facts is dropped; None when it is about them."""
    if isinstance(message, Delivery):
        return None if statements.suppresses(message) else "not_mine"
    if isinstance(message, Engagement):
        return None if message.kind in _ASKED else "not_mine"
    if message.kind == "member.erase":
        return "not_yet"
    return None if message.kind in _COMMANDS and message.member_id else "not_mine"
