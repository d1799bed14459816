"""A member's agenda while one input is handled: touches come, wait, are decided and settled. Pure.

`Agenda` is a draft over a `Member`: its methods change the draft and collect records; `finish` gives
all outcomes, with the state, the index of waiting touches and the one timer in step.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from math import inf
from typing import Protocol

import msgspec

from rondo_common.clock import from_iso
from rondo_common.outcomes import CancelTimer, Outcome, Save, SetTimer
from rondo_common.records import Touch
from services.rhythm import gates, output
from services.rhythm.budgets import pruned
from services.rhythm.decide import Verdict, decide
from services.rhythm.model import NEVER, Mark, Member, Settled, Slot, Spent, mark_key, state_key
from services.rhythm.policies import Policies

TIMER = "agenda"
GRACE_MS = 2_000
"""A touch can be some ms ahead of its member's contact, as they travel on two topics. It waits this
long for the contact, undecided, then is decided without one."""
SENT_KEPT_MS = 7 * 86_400_000
"""How long a let-through touch may come back from delivery."""
LEDGER_KEPT_MS = 35 * 86_400_000
"""The ledger goes at least this far back, so that a new budget knows the past."""


class Campaigns(Protocol):
    """What a partition knows of campaigns."""

    def stop(self, campaign: str, class_: str) -> str | None:
        """paused, cancelled or None, for touches of a class."""
        ...

    def cancels(self, campaign: str) -> int:
        """How often it was cancelled."""
        ...


_touches = msgspec.json.Decoder(Touch)
_NOBODY = Member()


def sameness(touch: Touch) -> str:
    """A short name of what a touch is, whoever it goes to: two touches of one run for two members who
    turn out to be one have the same. Empty for a touch of no run, which has no such twin."""
    if not touch.run_id:
        return ""
    channel = touch.channels[0] if touch.channel_rule == "all" else ""
    return _short(f"{touch.run_id}:{touch.step}:{touch.occurrence}:{channel}")


@lru_cache(maxsize=1024)
def _short(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()


def parked(touch: Touch, raw: bytes, now: int, cancels: int) -> Slot:
    """The slot of a touch that was not decided yet."""
    due = max(NEVER + 1, _instant(touch.decide_at))
    same = sameness(touch)
    return Slot(touch.touch_id, "parked", due, 0, now, touch.campaign, "", "", msgspec.Raw(raw), same, cancels)


def order(touch: Touch) -> tuple[float, float, float, str]:
    """Sort key of touches that are decided together: higher priority, higher value, earlier expiry,
    smaller id first."""
    return (-touch.priority, -touch.value, _instant(touch.not_after) if touch.not_after else inf, touch.touch_id)


class Agenda:
    """See the module. `now` in ms; `member` None for one not heard of yet."""

    def __init__(
        self,
        member_key: str,
        member: Member | None,
        policies: Policies,
        campaigns: Campaigns,
        now: int,
        fired: bool = False,
    ):
        self.key = member_key
        self.workspace, _, self.member_id = member_key.partition(":")
        self.now = now
        self.policies = policies
        self.campaigns = campaigns
        self.before = member or _NOBODY
        self.member = self.before
        agenda = self.before.agenda
        self.slots: dict[str, Slot] = {s.touch_id: s for s in agenda} if agenda else {}
        self.outcomes: list[Outcome] = []
        self._timer = NEVER if fired else self.before.timer

    # what comes in

    def arrive(self, touch: Touch, raw: bytes) -> str | None:
        """A touch has come. Returns the reason when there is nothing to do."""
        slot = parked(touch, raw, self.now, self.campaigns.cancels(touch.campaign))
        other = self._known(slot)
        if other == touch.touch_id:
            return "known_touch"
        if other is not None:
            self._merged(slot, touch, other)
        elif slot.due > self.now:
            self.slots[slot.touch_id] = slot
        elif self.member.contact is None:
            self._await_contact(slot)
        else:
            stop = self.campaigns.stop(touch.campaign, touch.class_)  # no cancel can mean it: it comes just now
            self._apply(slot, touch, decide(touch, self.member, self.policies, stop, self.now))
        return None

    def add_moved(self, slot: Slot) -> None:
        """A slot that comes from a merged-away member."""
        other = self._known(slot)
        if other == slot.touch_id:
            return
        if slot.waiting and other is not None:
            self._merged(slot, self._touch(slot), other)
            return
        if not slot.waiting:
            self._drop_same(slot.touch_id, slot.same)
        self.slots[slot.touch_id] = slot

    def add_spent(self, line: Spent) -> None:
        """A ledger line that comes from a merged-away member."""
        if any(e.touch_id == line.touch_id for e in self.member.ledger):
            return
        self._drop_same(line.touch_id, line.same)
        self._put(ledger=(*self.member.ledger, line))

    def settle(self, s: Settled) -> str | None:
        """Delivery's word about a touch that was let through. Returns the reason when it changes nothing."""
        slot = self.slots.get(s.touch_id)
        if slot is not None and (slot.waiting or slot.attempt != s.attempt):
            return "old_attempt"
        match s.status:
            case "accepted":
                at = min(s.at, self.now)
                id = s.touch_id
                ledger = [msgspec.structs.replace(e, at=at) if e.touch_id == id else e for e in self.member.ledger]
                self._put(ledger=tuple(ledger))
            case "rejected" | "cancelled" | "returned":
                self._put(ledger=tuple(e for e in self.member.ledger if e.touch_id != s.touch_id))
        if slot is not None:
            if s.status == "returned":
                self.decide_all([slot])
            else:
                del self.slots[s.touch_id]
        return None

    def decide_due(self) -> None:
        """Decide what has come due, together."""
        self.decide_all([s for s in self.slots.values() if s.waiting and s.due != NEVER and s.due <= self.now])

    def decide_waiting(self, reason: str) -> None:
        """Decide anew what waits for this reason ("" is: any)."""
        self.decide_all([s for s in self.slots.values() if s.waiting and reason in ("", s.reason)])

    def cancelled(self, slot: Slot) -> bool:
        """Whether its campaign was cancelled since it came, even if it runs again by now."""
        return slot.cancels < self.campaigns.cancels(slot.campaign)

    def decide_all(self, slots: Iterable[Slot]) -> None:
        """Decide these together, each one seeing what the earlier ones took from the budgets."""
        for touch, slot in sorted(((self._touch(s), s) for s in slots), key=lambda pair: order(pair[0])):
            early = slot.attempt == 0 and self.now < slot.since + GRACE_MS
            if self.member.contact is None and early and not self.cancelled(slot):
                self._await_contact(slot)
            else:
                self._decide(slot, touch)

    def reconsider(self, slots: Iterable[Slot]) -> None:
        """Decide deferred touches anew, but say nothing where it would be the same again."""
        for touch, slot in sorted(((self._touch(s), s) for s in slots), key=lambda pair: order(pair[0])):
            v = self._verdict(slot, touch)
            if v.verdict != "defer" or (v.reason, self._due(v, touch)) != (slot.reason, slot.due):
                self._apply(slot, touch, v)

    def _touch(self, slot: Slot) -> Touch:
        return _touches.decode(slot.touch)

    def _put(self, **changes: object) -> None:
        self.member = msgspec.structs.replace(self.member, **changes)

    def _await_contact(self, slot: Slot) -> None:
        self.slots[slot.touch_id] = msgspec.structs.replace(
            slot, status="arriving", due=max(slot.due, slot.since + GRACE_MS)
        )

    # deciding

    def _decide(self, slot: Slot, touch: Touch) -> None:
        self._apply(slot, touch, self._verdict(slot, touch))

    def _verdict(self, slot: Slot, touch: Touch) -> Verdict:
        stop = "cancelled" if self.cancelled(slot) else self.campaigns.stop(touch.campaign, touch.class_)
        return decide(touch, self.member, self.policies, stop, self.now)

    @staticmethod
    def _due(v: Verdict, touch: Touch) -> int:
        """When a deferred touch is decided next."""
        return v.until if v.until is not None else _expiry(touch)

    def _merged(self, slot: Slot, touch: Touch, other: str) -> None:
        """The member has another touch of the same run and step already."""
        found = gates.skip("audience", "merged", {"touch_id": other})
        self._apply(slot, touch, Verdict("skip", touch.channels[0], (found.shown,), "merged"))

    def _apply(self, slot: Slot, touch: Touch, v: Verdict) -> None:
        attempt = slot.attempt + 1
        self.outcomes.extend(output.records(touch, self.key, self.member_id, attempt, v, self.now))
        id = slot.touch_id
        if v.verdict == "skip":
            self.slots.pop(id, None)
            return
        if v.verdict == "send":
            status, due, reason = "sent", NEVER, ""
            line = Spent(id, self.now, v.channel, touch.topic, slot.same)
            self._put(ledger=(*self.member.ledger, line))
        else:
            status, reason = "deferred", v.reason or ""
            due = self._due(v, touch)
        since, campaign = self.now, slot.campaign
        self.slots[id] = Slot(
            id, status, due, attempt, since, campaign, reason, v.channel, slot.touch, slot.same, slot.cancels
        )

    def _known(self, slot: Slot) -> str | None:
        """Touch id of what the member has already of this kind, the very touch first. Another touch of
        the same run, step and occurrence can only have come by a merge."""
        if slot.touch_id in self.slots:
            return slot.touch_id
        if not self.member.ledger and not self.slots:
            return None
        found = None
        have: list[Spent | Slot] = [*self.member.ledger, *self.slots.values()]
        id, merged = slot.touch_id, bool(self.member.absorbed and slot.same)
        for e in have:
            if e.touch_id == id:
                return id
            if merged and e.same == slot.same:
                found = e.touch_id
        return found

    def _drop_same(self, id: str, same: str) -> None:
        """Skip what waits, as `id` of the same run and step has gone out."""
        for slot in [s for s in self.slots.values() if same and s.waiting and s.same == same and s.touch_id != id]:
            self._merged(slot, self._touch(slot), id)

    # what goes out

    def finish(self) -> list[Outcome]:
        """Everything that follows, the state last."""
        member, out = self.member, self.outcomes
        kept: tuple[Slot, ...] = ()
        waiting: list[Slot] = []
        due = NEVER
        if self.slots:
            kept = tuple([s for s in self.slots.values() if s.status != "sent" or self._may_return(s)])
            waiting = [s for s in kept if s.status != "sent"]
            due = min([s.due for s in waiting if s.due != NEVER], default=NEVER) if waiting else NEVER
        ledger = member.ledger
        if ledger:
            ledger = pruned(ledger, self.now, max(LEDGER_KEPT_MS, self.policies.longest))
        after = Member(member.contact, kept, ledger, member.talks, due, member.moved, member.absorbed)
        if waiting or any([s.status != "sent" for s in self.before.agenda]):
            out.extend(self._marks(waiting))
        owner = state_key(self.key)
        if due != self._timer:
            out.append(CancelTimer(owner, TIMER) if due == NEVER else SetTimer(owner, TIMER, due))
        if after != self.before:
            out.append(Save(owner, None if after.empty else after))
        self.member = after
        return out

    def _may_return(self, slot: Slot) -> bool:
        """Whether a let-through touch is still expected back; delivery holds those of a paused campaign."""
        young = slot.since > self.now - SENT_KEPT_MS
        return young or self.campaigns.stop(slot.campaign, "marketing") is not None

    def _marks(self, waiting: list[Slot]) -> Iterator[Outcome]:
        had = {s.campaign for s in self.before.agenda if s.waiting}
        has = {s.campaign for s in waiting}
        for campaign in sorted(had ^ has):
            key = mark_key(self.workspace, campaign, self.member_id)
            yield Save(key, Mark() if campaign in has else None)


@lru_cache(maxsize=1024)
def _instant(text: str) -> int:
    return from_iso(text)


def _expiry(touch: Touch) -> int:
    """When a touch that waits for an event is looked at anyway: right after its last moment."""
    return _instant(touch.not_after) + 1 if touch.not_after else NEVER
