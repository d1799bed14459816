"""The delivery stage: what it reads, which states an input touches, which handler decides."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.outcomes import Drop, Outcome, Save
from rondo_common.records import Command, Contact, Delivery, Send
from rondo_common.stage import Assigned, Input, Record, Result, Results, States, SweepItem, Timer, Touches
from services.delivery import members
from services.delivery.handlers import doubts, outcomes, sends, upkeep
from services.delivery.handlers.parts import GO, RECONCILE, Parts, member_key, send_key, send_of
from services.delivery.model import FINAL, TYPES, MemberState, Status

_command = msgspec.json.Decoder(Command).decode
_contact = msgspec.json.Decoder(Contact).decode
_profile = msgspec.json.Decoder(members.ProfileTraits).decode
_delivery = msgspec.json.Decoder(Delivery).decode
_send = msgspec.json.Decoder(Send).decode


class _Status(msgspec.Struct):
    status: str
    channel: str


_status = msgspec.json.Decoder(_Status).decode

_NOTHING = Touches()
_NO_NEWS = frozenset(f"delivery.{status}" for status in Status)
"""Types of records that a delivery worker wrote itself."""
_DROP_NO_NEWS = Drop("no_news")

BULK_LIMIT = 500
"""Most bulk sends of one transaction (STREAMS 25)."""


class DeliveryStage:
    """The Stage of one channel. Keeps nothing but compiled templates."""

    state_topic = topics.SENDS_STATE
    first_alone = True
    """A pause or a stop holds within a second (STREAMS 24), also when a batch of mails takes long to render."""
    unhurried = frozenset((topics.DELIVERIES, topics.PROFILES))
    unhurried_s = 1.0
    """A send that comes ends it, and is handled behind them."""
    wall_clock = True
    types: dict[str, type] = TYPES
    together = True
    indexed = frozenset(("o", "h"))
    """Kinds of state that sweeps meet; members need no place in the index."""

    def __init__(self, parts: Parts, partitions: int):
        channel = parts.channel
        self.name = f"delivery-{channel}"
        self.state_offset = topics.CHANNELS.index(channel) * partitions
        sends_ = [[topics.sends(channel, lane)] for lane in topics.LANES]
        self.lanes: Sequence[Sequence[str]] = [
            [topics.COMMANDS],
            [topics.CONTACTS, topics.PROFILES, topics.DELIVERIES],
            *sends_,
        ]
        self.lane_limit = {len(self.lanes) - 1: BULK_LIMIT}
        # only sends make calls: facts about members flow on while the provider is busy
        self.effect_lanes = range(2, len(self.lanes))
        self._parts = parts
        self._sends = frozenset(t for lane in sends_ for t in lane)

    def read(self, record: Record) -> Any:
        """The Struct of a record; None for a tombstone, a drop for outcomes that tell this channel nothing."""
        topic = record.topic
        if topic in self._sends:
            return _send(record.value)
        if topic == topics.DELIVERIES:
            if record.headers.get("ce_type") in _NO_NEWS:
                return _DROP_NO_NEWS  # nearly all are outcomes of the channels' own; the type says so without the value
            small = _status(record.value)
            mine = small.channel == self._parts.channel and small.status in outcomes.TOOK
            return _delivery(record.value) if mine else _DROP_NO_NEWS
        if topic == topics.CONTACTS:
            return _contact(record.value) if record.value else None
        if topic == topics.PROFILES:
            return _profile(record.value) if record.value else None
        return _command(record.value)

    def touches(self, item: Input, message: Any) -> Touches:
        """Keys from the input alone (STREAMS 10)."""
        kind = type(item)
        if kind is Record:
            if item.topic in self._sends:
                own = send_key(message.touch_id)
                return Touches(own, (own, member_key(message.workspace, message.member_id)))
            if item.topic in (topics.CONTACTS, topics.PROFILES):
                return Touches(None, (f"m:{item.key}",))
            if item.topic == topics.DELIVERIES:
                return Touches(None, (send_key(message.touch_id),))
            return _NOTHING
        if kind is Results:
            return Touches(None, outcomes.keys_of(item))
        match item:
            case Timer(name="go", owner=owner, payload=payload):
                return Touches(None, (owner, payload.decode()))
            case Timer(name="reconcile", owner=owner):
                return Touches(None, (owner, doubts.step_of(item).member))
            case Result(id=id):
                return Touches(None, (send_key(outcomes.parse(id)[0]),))
            case SweepItem(key=key):
                if key.startswith("h:"):
                    return Touches(None, (key, send_key(key.split(":", 3)[3])))
                return Touches(None, (key,))
        return _NOTHING

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        """Decide one input."""
        if type(item) is Record:
            return self._record(item, message, states, now)
        match item:
            case Results():
                return outcomes.on_results(self._parts, item, states, now)
            case Result():
                return outcomes.on_result(self._parts, item, states, now)
            case Timer():
                return self._timer(item, states, now)
            case SweepItem():
                return upkeep.on_sweep(self._parts, item, states, now)
            case Assigned():
                return upkeep.on_assigned(item, states, now)
        return ()

    def _record(self, item: Record, message: Any, states: States, now: int) -> Iterable[Outcome]:
        topic = item.topic
        if topic in self._sends:
            return sends.on_send(self._parts, item, message, states, now)
        if topic == topics.DELIVERIES:
            return outcomes.on_callback(self._parts, item, message, states, now)
        if topic == topics.COMMANDS:
            return upkeep.on_command(item, message, states, now)
        key = f"m:{item.key}"
        old: MemberState | None = states.get(key)
        if topic == topics.CONTACTS:
            new = members.with_contact(old, message, self._parts.channel, self._parts.secret)
        else:
            new = members.with_profile(old, message)
        return (Drop("unchanged"),) if new == old else (Save(key, new),)

    def _timer(self, item: Timer, states: States, now: int) -> Iterable[Outcome]:
        if item.name == RECONCILE:
            return doubts.on_reconcile(self._parts, item, states, now)
        if item.name == GO:
            state = states.get(item.owner)
            if state is None or state.status in FINAL or state.status not in ("queued", "retry"):
                return (Drop("settled"),)
            return sends.advance(self._parts, item, send_of(state), state, states, now)
        return upkeep.on_cleaner(now)
