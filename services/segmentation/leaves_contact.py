"""Leaves about consent, addresses and the random bucket, compiled (see `leaf`). Pure."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from services.segmentation import rules as r
from services.segmentation.leaf import AddressId, Answer, Facts, Leaf, at_time, first_change
from services.segmentation.model import NEVER, Member

ADDRESS_TRAITS = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}
"""Channel to the trait that holds its address."""

_ADDRESS = {
    "email": re.compile(r"[^@\s]+@[^@\s]+"),
    "sms": re.compile(r"\+[\d\s().-]{6,38}"),
    "messaging": re.compile(r"@?[A-Za-z0-9_-]{1,64}"),
}
"""The shape of an address; anything else under its trait is none (profiles checks it in full)."""


class ConsentLeaf(Leaf):
    """The verdict of WIRE 2: a denied "*" wins; else the topic's entry; else the "*" entry; else denied."""

    def __init__(self, node: r.Consent):
        self.pointer = node.pointer
        self.facets = frozenset({("consent", node.channel)})
        self._all = f"{node.channel}:*"
        self._topic = f"{node.channel}:{node.topic}"
        self._granted = node.state == "granted"

    def _verdict(self, member: Member, at: int) -> bool:
        everything, topic = member.consents.get(self._all), member.consents.get(self._topic)
        whole = at_time(everything, at) if everything else None
        if whole is False:
            return False
        own = at_time(topic, at) if topic else None
        return bool(whole if own is None else own)

    def test(self, facts: Facts) -> Answer:
        member, at = facts.member, facts.at
        later = [t for t in self.points(member, "") if t > at]
        if not later:
            return self._verdict(member, at) is self._granted, NEVER
        return first_change(lambda t: self._verdict(member, t) is self._granted, at, later)

    def inputs(self, facts: Facts) -> dict[str, Any]:
        known = {}
        for name, key in (("*", self._all), ("topic", self._topic)):
            history = facts.member.consents.get(key)
            state = at_time(history, facts.at) if history else None
            if state is not None:
                known[name] = "granted" if state else "denied"
        return {"state": "granted" if self._verdict(facts.member, facts.at) else "denied", "entries": known}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        for key in (self._all, self._topic):
            for t, _ in member.consents.get(key, ()):
                yield t


class ReachableLeaf(Leaf):
    """An address is known and not suppressed."""

    def __init__(self, node: r.Reachable, address_id: AddressId):
        self.pointer = node.pointer
        self._channel = node.channel
        self._trait = ADDRESS_TRAITS[node.channel]
        self._address_id = address_id
        self.facets = frozenset({("trait", self._trait), ("suppression", node.channel)})

    def _address(self, member: Member, at: int) -> str | None:
        history = member.traits.get(self._trait)
        value = at_time(history, at) if history else None
        if type(value) is int and self._channel == "messaging":
            value = str(value)
        text = value.strip() if type(value) is str else ""
        return text if _ADDRESS[self._channel].fullmatch(text) else None

    def _suppressed(self, member: Member, address: str, at: int) -> bool:
        return any(
            s.channel == self._channel
            and s.at <= at
            and (s.address_id is None or s.address_id == self._address_id(self._trait, address))
            for s in member.suppressions
        )

    def _holds(self, member: Member, at: int) -> bool:
        address = self._address(member, at)
        return address is not None and not self._suppressed(member, address, at)

    def test(self, facts: Facts) -> Answer:
        member, at = facts.member, facts.at
        later = [t for t in self.points(member, "") if t > at]
        if not later:
            return self._holds(member, at), NEVER
        return first_change(lambda t: self._holds(member, t), at, later)

    def inputs(self, facts: Facts) -> dict[str, Any]:
        address = self._address(facts.member, facts.at)
        suppressed = address is not None and self._suppressed(facts.member, address, facts.at)
        return {"address": address is not None, "suppressed": suppressed}

    def points(self, member: Member, member_id: str) -> Iterable[int]:
        for t, _ in member.traits.get(self._trait, ()):
            yield t
        for s in member.suppressions:
            if s.channel == self._channel:
                yield s.at


class BucketLeaf(Leaf):
    """A stable random share of all members."""

    def __init__(self, node: r.Bucket):
        self.pointer = node.pointer
        self._seed, self._start, self._end = node.seed, node.start, node.end

    def _x(self, member_id: str) -> float:
        return int(hashlib.sha256(f"{self._seed}:{member_id}".encode()).hexdigest()[:8], 16) / 2**32

    def test(self, facts: Facts) -> Answer:
        return self._start <= self._x(facts.member_id) < self._end, NEVER

    def inputs(self, facts: Facts) -> dict[str, Any]:
        return {"x": self._x(facts.member_id)}
