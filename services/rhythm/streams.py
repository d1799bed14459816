"""The rhythm stage: what it reads, which states an input touches, and who handles it."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rondo_common import active, ids, topics
from rondo_common.outcomes import Drop, Outcome
from rondo_common.records import Command, CommunityEvent, Contact, Move, Touch
from rondo_common.stage import Input, Record, States, SweepItem, Timer, Touches
from services.rhythm import handlers, merges
from services.rhythm.agenda import Agenda
from services.rhythm.model import STATE_TYPES, Cancels, Told, cancels_key, policies_key, state_key
from services.rhythm.policies import NO_POLICIES, Policies, compile_all

STATE_TOPIC = topics.RHYTHM
LANES: Sequence[Sequence[str]] = (
    (topics.COMMANDS, topics.CONTACTS, topics.MOVES, topics.COMMUNITY, topics.DELIVERIES),
    (topics.touches("transactional"),),
    (topics.touches("triggered"),),
    (topics.touches("bulk"),),
)
BULK = 1_000
"""Bulk touches of one batch: some 40 ms, so that what comes in a higher lane hardly waits (STREAMS 25 says
500; a transaction costs the broker 10 ms of CPU whatever it holds, which halves per touch with this)."""
_NOTHING = Touches()
_TOUCHES = {topics.touches(lane) for lane in topics.LANES}
_DECODERS: dict[str, Any] = {
    topics.COMMANDS: msgspec.json.Decoder(Command),
    topics.CONTACTS: msgspec.json.Decoder(Contact),
    topics.MOVES: msgspec.json.Decoder(Move),
    topics.COMMUNITY: msgspec.json.Decoder(CommunityEvent),
    topics.DELIVERIES: msgspec.json.Decoder(Told),
    **{topic: msgspec.json.Decoder(Touch) for topic in _TOUCHES},
}


class _Campaigns:
    """What the partition's globals say of campaigns."""

    def __init__(self, states: States, workspace: str):
        self._states = states
        self._workspace = workspace

    def stop(self, campaign: str, class_: str) -> str | None:
        return active.stopped(self._states, self._workspace, campaign, class_)

    def cancels(self, campaign: str) -> int:
        known: Cancels | None = self._states.get(cancels_key(self._workspace, campaign))
        return 0 if known is None else known.count


class RhythmStage:
    """The gate as a Stage. `secret` is the installation's master secret, for ids of addresses."""

    name = "rhythm"
    state_topic = STATE_TOPIC
    state_offset = 0
    lanes = LANES
    unhurried = frozenset((topics.DELIVERIES,))
    lane_limit: dict[int, int] = {3: BULK}  # noqa: RUF012 - never written
    wall_clock = True
    types: dict[str, type] = STATE_TYPES

    def __init__(self, secret: str):
        self._secret = secret
        self._compiled: dict[tuple[int, str], tuple[object, Policies]] = {}

    def read(self, record: Record) -> Any:
        if not record.value:
            if record.topic == topics.CONTACTS:
                return None
            raise ValueError("an empty record")
        message = _DECODERS[record.topic].decode(record.value)
        if record.topic in _TOUCHES and message.kind == "touch":
            _check(message)
        return message

    def touches(self, item: Input, message: Any) -> Touches:
        if isinstance(item, Record):
            return _touched(state_key(item.key)) if _about_member(item, message) else _NOTHING
        if isinstance(item, Timer):
            return _touched(item.owner)
        if isinstance(item, SweepItem):
            return _touched(state_key(_marked(item.key)[1]))
        return _NOTHING

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if isinstance(item, Record):
            return self._record(item, message, states, now)
        if isinstance(item, Timer):
            agenda = self._agenda(item.owner.partition(":")[2], states, now, fired=True)
            agenda.decide_due()
            return agenda.finish()
        if isinstance(item, SweepItem):
            campaign, key = _marked(item.key)
            return handlers.on_swept(self._agenda(key, states, now), campaign, item.payload)
        return ()

    def _record(self, record: Record, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if record.topic == topics.COMMANDS:
            return handlers.on_command(message, states)
        if not _about_member(record, message):
            return (Drop("not_mine"),)
        agenda = self._agenda(record.key, states, now)
        if record.topic in _TOUCHES:
            return handlers.on_touch(agenda, message, record.value)
        if record.topic == topics.CONTACTS:
            return handlers.on_contact(agenda, message, ids.workspace_secret(self._secret, agenda.workspace))
        if record.topic == topics.MOVES:
            return handlers.on_move(agenda, message)
        if record.topic == topics.COMMUNITY:
            return handlers.on_community(agenda, message)
        return handlers.on_delivery(agenda, message)

    def _agenda(self, member_key: str, states: States, now: int, fired: bool = False) -> Agenda:
        workspace = member_key.partition(":")[0]
        policies = self._policies(workspace, states)
        campaigns = _Campaigns(states, workspace)
        return Agenda(member_key, states.get(state_key(member_key)), policies, campaigns, now, fired)

    def _policies(self, workspace: str, states: States) -> Policies:
        """The partition's policies, compiled once for each set of versions."""
        current = states.get(policies_key(workspace))
        if current is None:
            return NO_POLICIES
        place = (states.partition, workspace)
        cached = self._compiled.get(place)
        if cached is None or cached[0] is not current:
            cached = self._compiled[place] = (current, compile_all(current))
        return cached[1]


def _touched(key: str) -> Touches:
    return Touches(key, (key,))


def _about_member(record: Record, message: Any) -> bool:
    """Whether a record changes a member's agenda."""
    topic = record.topic
    if topic in _TOUCHES:
        return message.kind == "touch"
    if topic == topics.DELIVERIES:
        return message.status in handlers.OUTCOMES and bool(message.touch_id)
    if topic == topics.MOVES:
        return message.stage == merges.STAGE
    return topic in (topics.CONTACTS, topics.COMMUNITY)


def _check(touch: Touch) -> None:
    """Refuse what no decision can be made of."""
    if not touch.touch_id or not touch.channels or touch.lane not in topics.LANES:
        raise ValueError("a touch without id, channels or a known lane")


def _marked(key: str) -> tuple[str, str]:
    """Campaign, and member key, of a mark's key w:<workspace>:<campaign>:<member>."""
    workspace, _, rest = key[2:].partition(":")
    campaign, _, member_id = rest.rpartition(":")
    return campaign, f"{workspace}:{member_id}"
