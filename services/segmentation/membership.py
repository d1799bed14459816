"""Brings a member's memberships in step with its history: entered, left, timers. Pure.

Segments are evaluated at an instant that never goes back for a member, whatever the times of the
records are. What is written says when a membership began or ended by the rule (`at`), which for a
late event lies before the instant it was noticed (`recorded_at`).
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import CancelTimer, Emit, Outcome, Save, SetTimer
from rondo_common.records import Membership, MembershipChange, Memberships
from rondo_common.stage import States
from services.segmentation.history import earliest
from services.segmentation.kept import closed
from services.segmentation.leaf import Facts
from services.segmentation.model import NEVER, Count, Inside, Member, count_key, state_key
from services.segmentation.ruleset import RuleSet

V = TypeVar("V")


class Why(msgspec.Struct, frozen=True):
    """What an evaluation follows from: the id of the input (for derived ids), the name it has in what is
    written, whether it is history, the time of the fact (None: no single one), the input's `now`."""

    input: str
    cause: str
    now: int
    fact_at: int | None = None
    historical: bool = False
    backfill: bool = False


class Settling:
    """One member's evaluation in one input. Gather with `evaluate` and `leave`, write with `outcomes`.
    `inside` and `timers` are the member's own until one of them changes: most evaluations change neither."""

    def __init__(self, workspace: str, member_id: str, member: Member, why: Why):
        self.workspace, self.member_id, self.member, self.why = workspace, member_id, member, why
        self.at = max(why.now, member.clock)
        self.inside = member.inside
        self.timers = member.timers
        self._written: list[Outcome] = []
        self._moves: dict[str, int] = {}
        self._key = state_key(workspace, member_id)

    def fired(self, segment: str) -> None:
        """The timer of `segment` has fired: it is no longer set."""
        self.timers = _without(self.timers, segment)

    def evaluate(self, rules: RuleSet, segments: Iterable[str]) -> None:
        """Evaluate `segments`; a member that doesn't count leaves them."""
        if not self.member.counts:
            for segment in segments:
                self.leave(segment, rules.versions.get(segment))
            return
        facts = Facts(self.member, self.member_id, self.at)
        for segment in segments:
            program = rules.programs.get(segment)
            if program is None:
                self.leave(segment, rules.versions.get(segment))
                continue
            version = rules.versions[segment]
            holds, until = program.test(facts)
            was = self.inside.get(segment)
            if holds and was is None:
                since = program.since(self.member, self.member_id, self.at)
                self._enter(segment, version, earliest(self.member) if since is None else since)
            elif was is not None and not holds:
                self._leave(segment, version, was, program.since(self.member, self.member_id, self.at))
            elif was is not None and self._may_differ(rules, segment, was):
                since = program.since(self.member, self.member_id, self.at)
                if since is not None and since != was.since:
                    self.inside = {**self.inside, segment: Inside(since, was.version)}
            self._timer(segment, until)

    def leave(self, segment: str, version: int | None) -> None:
        """The member is not in `segment` any more, at once; nothing when it wasn't. `version` None: the
        segment has none, the membership's is named."""
        was = self.inside.get(segment)
        if was is not None:
            self._leave(segment, was.version if version is None else version, was, None)
        self._timer(segment, NEVER)

    def outcomes(self, states: States) -> list[Outcome]:
        """Everything that follows: changes, the map of memberships, timers, counts, the state."""
        out = self._written
        if self.inside is not self.member.inside and self.inside != self.member.inside:
            out.append(self._map())
        for segment, by in self._moves.items():
            key = count_key(self.workspace, segment)
            count = states.get(key)
            out.append(Save(key, Count((count.members if count else 0) + by)))
        if self.why.backfill and self.inside == self.member.inside and self.timers == self.member.timers:
            return out  # most members of a sweep: nothing to write
        out.append(Save(self._key, closed(self.member, self.at, self.inside, self.timers)))
        return out

    # inside

    def _may_differ(self, rules: RuleSet, segment: str, was: Inside) -> bool:
        """Whether a late fact may have moved the beginning of a membership that goes on."""
        fact_at = self.why.fact_at
        if fact_at is None or fact_at >= self.at:
            return False
        if was.since > fact_at:
            return True
        holds, until = rules.programs[segment].test(Facts(self.member, self.member_id, fact_at))
        return not holds or until <= self.at

    def _enter(self, segment: str, version: int, since: int | None) -> None:
        since = self.at if since is None else min(since, self.at)
        self.inside = {**self.inside, segment: Inside(since, version)}
        self._moves[segment] = self._moves.get(segment, 0) + 1
        self._change(segment, version, "entered", since)

    def _leave(self, segment: str, version: int, was: Inside, since: int | None) -> None:
        if since is None or self.why.backfill:
            since = self.at  # by the version before, the member was in until now
        since = max(since, was.since)
        self.inside = _without(self.inside, segment)
        self._moves[segment] = self._moves.get(segment, 0) - 1
        self._change(segment, version, "left", min(since, self.at))

    def _change(self, segment: str, version: int, change: str, at: int) -> None:
        id = ids.derived(self.why.input, f"{segment}:{version}:{change}")
        record = MembershipChange(
            workspace=self.workspace,
            segment=segment,
            version=version,
            change=change,
            at=iso(at),
            recorded_at=iso(self.at),
            id=id,
            member_id=self.member_id,
            historical=self.why.historical,
            cause=self.why.cause,
        )
        key = ids.member_key(self.workspace, self.member_id)
        self._written.append(
            Emit(topics.MEMBERSHIP_CHANGES, key, record, f"segment.{change}", id, subject=self.member_id)
        )

    def _map(self) -> Emit:
        """The compacted map of memberships; a tombstone for a member that is in none and doesn't count."""
        key = ids.member_key(self.workspace, self.member_id)
        segments = {s: Membership(iso(m.since), m.version) for s, m in sorted(self.inside.items())}
        record = Memberships(self.workspace, self.member_id, segments)
        value = record if segments or self.member.counts else None
        id = ids.derived(self.why.input, "memberships")
        return Emit(topics.MEMBERSHIPS, key, value, "memberships", id, subject=self.member_id)

    def _timer(self, segment: str, until: int) -> None:
        due = self.timers.get(segment)
        if until == NEVER:
            if due is not None:
                self.timers = _without(self.timers, segment)
                self._written.append(CancelTimer(self._key, segment))
        elif due != until:
            self.timers = {**self.timers, segment: until}
            self._written.append(SetTimer(self._key, segment, until))


def _without(entries: dict[str, V], name: str) -> dict[str, V]:
    return {other: value for other, value in entries.items() if other != name}
