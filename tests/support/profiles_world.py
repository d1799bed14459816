"""Builders and a small bus for tests of the profiles stage."""

from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import from_iso
from rondo_common.ids import identifier_id, member_key, workspace_secret
from rondo_common.records import Event
from services.profiles import views
from services.profiles.model import Member, member_state, sender_key
from services.profiles.streams import ProfilesStage
from tests.support.stage_driver import Emitted, StageDriver

SECRET = "test-secret"
WS = "demo"
T0 = from_iso("2026-11-20T10:00:00Z")
"""Log time at which the tests begin."""


def uid(user: str) -> str:
    """Id of a user id."""
    return identifier_id(workspace_secret(SECRET, WS), "user_id", user)


def aid(anonymous: str) -> str:
    """Id of an anonymous id."""
    return identifier_id(workspace_secret(SECRET, WS), "anonymous_id", anonymous)


def address(kind: str, value: str) -> str:
    """Id of an address in its form of comparison."""
    return identifier_id(workspace_secret(SECRET, WS), kind, value)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def event(
    type: str,
    message_id: str,
    user: str | None = None,
    anonymous: str | None = None,
    at: str = "2026-11-20T10:00:00Z",
    **more: Any,
) -> Event:
    """An accepted call. traits, properties and context are given as Python values."""
    for field in ("traits", "properties", "context"):
        if field in more:
            more[field] = raw(more[field])
    sender = uid(user) if user is not None else aid(anonymous or "")
    return Event(WS, type, message_id, sender, at, at, user_id=user, anonymous_id=anonymous, **more)


class World:
    """A driven stage whose own messages (links, routed) are delivered by `pump`."""

    def __init__(self, clock: int = T0):
        self.driver = StageDriver(ProfilesStage(SECRET), clock=clock)
        self.seen: list[Emitted] = []

    def send(self, *events: Event, pump: bool = True, time: int | None = None) -> "World":
        """Feed events; with `pump` deliver all that follows."""
        for e in events:
            self.driver.feed(topics.EVENTS, member_key(e.workspace, e.sender), e, time=time)
            if pump:
                self.pump()
        return self

    def feed(self, topic: str, key: str, value: Any) -> "World":
        """Feed a record keyed `<workspace>:<key>` and deliver all that follows."""
        self.driver.feed(topic, member_key(WS, key), value)
        self.pump()
        return self

    def internal(self) -> list[Emitted]:
        """Take what was emitted; keep it in `seen`; return the messages to profiles itself."""
        taken = self.driver.take()
        self.seen.extend(taken)
        return [e for e in taken if e.topic in (topics.LINKS, topics.ROUTED)]

    def pump(self) -> None:
        """Deliver links and routed messages until none are left."""
        while batch := self.internal():
            self.driver.feed_emitted(batch)

    def values(self, topic: str, kind: str | None = None) -> list[Any]:
        """What was emitted to a topic; of one ce_type when named."""
        return [e.value for e in self.seen if e.topic == topic and kind in (None, e.type)]

    def member(self, member_id: str) -> Member | None:
        return self.driver.states().get(member_state(WS, member_id))

    def profile(self, member_id: str) -> dict[str, Any]:
        """The member's profile as plain values."""
        member = self.member(member_id)
        assert member is not None
        return msgspec.json.decode(msgspec.json.encode(views.profile(WS, member_id, member)))

    def contact(self, member_id: str) -> dict[str, Any]:
        member = self.member(member_id)
        assert member is not None
        return msgspec.json.decode(msgspec.json.encode(views.contact(WS, member_id, member)))

    def resolve(self, identifier: str) -> str | None:
        """The member an identifier belongs to at last."""
        states = self.driver.states()
        sender = states.get(sender_key(WS, identifier))
        at = sender.member if sender is not None else identifier
        while (member := states.get(member_state(WS, at))) is not None and member.merged_into is not None:
            at = member.merged_into
        return at if member is not None else None
