"""The segmentation stage: keeps every member's history and its memberships in every active segment.

State per member `m:<workspace>:<member>`; timers are owned by that key, one per segment. Globals: the
active definitions (`rondo_common.active`), the set of them, live markers and counts (model).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from rondo_common import active, ids, topics
from rondo_common import records as rec
from rondo_common.outcomes import Drop, Outcome
from rondo_common.stage import Input, Record, States, SweepEnd, SweepItem, Timer, Touches
from services.segmentation import history
from services.segmentation.handlers import members, merges, segments
from services.segmentation.kept import Kept
from services.segmentation.model import Active, Count, Live, set_key, state_key
from services.segmentation.ruleset import RuleSet

STAGE = merges.STAGE
_KEPT_SETS = 256

_READERS: dict[str, Callable[[bytes], Any]] = {
    topic: msgspec.json.Decoder(type_).decode
    for topic, type_ in (
        (topics.COMMANDS, rec.Command),
        (topics.MOVES, rec.Move),
        (topics.CONTACTS, rec.Contact),
        (topics.MEMBER_EVENTS, rec.MemberEvent),
        (topics.DELIVERIES, members.Sent),
        (topics.ENGAGEMENT, members.Engaged),
    )
}
_ON: dict[type, Callable[..., Iterable[Outcome]]] = {
    rec.MemberEvent: members.on_event,
    rec.Contact: members.on_contact,
    members.Sent: members.on_sent,
    members.Engaged: members.on_engaged,
    rec.Move: merges.on_move,
}
_SAID = {topics.DELIVERIES: ("delivery", history.SENT), topics.ENGAGEMENT: ("engagement", history.ENGAGED)}
"""What the header ce_type of a topic's records tells, and the words that matter."""
_NOTHING = Touches()


class SegmentationStage:
    """See `rondo_common.stage.Stage`. `master` is the installation's secret: suppressions name addresses
    by their ids."""

    name = STAGE
    state_topic = topics.SEGMENTATION_STATE
    state_offset = 0
    lanes: Sequence[Sequence[str]] = (
        (topics.COMMANDS, topics.MOVES),
        (topics.CONTACTS, topics.MEMBER_EVENTS, topics.DELIVERIES, topics.ENGAGEMENT),
    )
    unhurried = frozenset((topics.DELIVERIES, topics.ENGAGEMENT))
    lane_limit: ClassVar[dict[int, int]] = {}
    wall_clock = False
    types: ClassVar[dict[str, type]] = {
        **active.GLOBAL_TYPES,
        "g:set": Active,
        "g:live": Live,
        "g:count": Count,
        "m": Kept,
    }

    def __init__(self, master: str):
        self._master = master
        self._sets: dict[str, RuleSet] = {}

    def read(self, record: Record) -> Any:
        """What no rule can ask about is told by its header: it is not even decoded."""
        topic = record.topic
        if topic in _SAID:
            what, words = _SAID[topic]
            word = record.said(what)
            if word and word not in words:
                return Drop("nothing_new")
        return _READERS[topic](record.value) if record.value else Drop("nothing")

    def touches(self, item: Input, message: Any) -> Touches:
        kind = type(item)
        if kind is Record:
            if type(message) is rec.Command:
                return _NOTHING
            key = state_key(message.workspace, message.member_id)
            return Touches(key, (key,))
        if kind is Timer:
            return Touches(None, (item.owner,))
        if kind is SweepItem:
            return Touches(item.key, (item.key,))
        return _NOTHING

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterable[Outcome]:
        if type(item) is Record:
            on = _ON.get(type(message))
            if on is None:
                return segments.on_command(message, states)
            return on(item, message, states, now, self._rules(states, message.workspace))
        match item:
            case Timer(owner=owner):
                return members.on_timer(item, states, now, self._rules(states, owner.split(":", 2)[1]))
            case SweepItem(key=key):
                return segments.on_sweep_item(item, states, now, self._rules(states, key.split(":", 2)[1]))
            case SweepEnd():
                return segments.on_sweep_end(item, states, now)
        return (Drop("nothing"),)

    def _rules(self, states: States, workspace: str) -> RuleSet:
        """The compiled segments active in this partition, made once per set of versions."""
        now_active: Active | None = states.get(set_key(workspace))
        key = now_active.key if now_active else ""
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) >= _KEPT_SETS:
                self._sets.clear()
            made = RuleSet(active.every(states, workspace, "segment"), address_ids(self._master, workspace))
            found = self._sets[key] = made
        return found


@lru_cache(maxsize=1024)
def address_ids(master: str, workspace: str) -> Callable[[str, str], str]:
    """How ids of addresses are made in a workspace: (kind, value) -> id."""
    secret = ids.workspace_secret(master, workspace)
    forms = {"email": ids.normal_email, "phone": ids.normal_phone}

    def address_id(kind: str, value: str) -> str:
        form = forms.get(kind)
        return ids.identifier_id(secret, kind, form(value) if form else value)

    return address_id
