"""The segmentation stage in a driver, with what its tests say all the time."""

from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.ids import member_key
from rondo_common.partition import partition_of
from rondo_common.records import Command, Definition, MembershipChange
from services.segmentation.kept import whole
from services.segmentation.model import Member, state_key
from services.segmentation.streams import SegmentationStage
from tests.support.segment_records import WORKSPACE, raw
from tests.support.segment_strategies import START
from tests.support.stage_driver import Emitted, StageDriver


class Segmentation:
    """`put` activates a rule in all partitions, `feed` gives a member's record, `inside` is the truth."""

    def __init__(self, clock: int = START, partitions: int = 2):
        self.driver = StageDriver(SegmentationStage("secret"), clock, partitions)
        self.versions: dict[str, int] = {}

    def put(self, segment: str, rule: dict[str, Any] | None, workspace: str = WORKSPACE) -> None:
        version = self.versions[segment] = self.versions.get(segment, 0) + 1
        for partition in range(self.driver.partitions):
            self.activate(segment, rule, version, partition, workspace)

    def activate(
        self, segment: str, rule: dict[str, Any] | None, version: int, partition: int, workspace: str = WORKSPACE
    ) -> None:
        at = iso(self.driver.now)
        body = raw({"name": segment, "rule": rule} if rule is not None else {})
        d = Definition(workspace, "segment", segment, version, body, at, deleted=rule is None)
        command = Command("definition.activated", workspace, f"{segment}-{version}", at, definition=d)
        self.driver.feed(topics.COMMANDS, f"{workspace}:segment:{segment}", command, partition=partition)

    def feed(self, topic: str, record: Any, time: int | None = None) -> None:
        self.driver.feed(topic, member_key(record.workspace, record.member_id), record, time)

    def follow_moves(self) -> None:
        """Bring what was written to the moves topic back in, until nothing more is written."""
        while moves := self.driver.take(topics.MOVES):
            self.driver.feed_emitted(moves)

    def state(self, member_id: str = "m1") -> Member | None:
        partition = partition_of(member_key(WORKSPACE, member_id), self.driver.partitions)
        kept = self.driver.state(state_key(WORKSPACE, member_id), partition)
        return None if kept is None else whole(kept)

    def inside(self, member_id: str = "m1") -> set[str]:
        """The segments the member is in, which the compacted map and the changes must say as well."""
        state = self.state(member_id)
        found = set(state.inside) if state else set()
        written = [e for e in self.driver.emitted(topics.MEMBERSHIPS) if e.subject == member_id]
        last = msgspec.json.decode(written[-1].data) if written and written[-1].data else {}
        assert set(last.get("segments", {})) == found
        counted: set[str] = set()
        for change in self.changes(member_id):
            assert (change.segment in counted) == (change.change == "left"), change
            counted ^= {change.segment}
        assert counted == found
        return found

    def changes(self, member_id: str = "m1") -> list[MembershipChange]:
        return [
            e.value
            for e in self.driver.emitted(topics.MEMBERSHIP_CHANGES)
            if e.value.member_id == member_id and e.value.change != "live"
        ]

    def live(self, segment: str) -> list[Emitted]:
        """The live markers of a segment's newest version."""
        return [
            e
            for e in self.driver.emitted(topics.MEMBERSHIP_CHANGES)
            if (e.value.segment, e.value.change, e.value.version) == (segment, "live", self.versions[segment])
        ]
