"""A small log for the auditor, as real record values: n events with their effects, m touches with theirs.

story = Story("w")                   # everything as it must be
story.records                        # [(topic, key, value bytes, headers)] in log order, partition 0
story.drop(topics.MEMBER_EVENTS, "m-3")        # plant a hole
story.again(topics.SENDS, "t-1")               # plant a repeat
"""

import base64
import json
from typing import Any

from rondo_cli.audit import facts
from rondo_common import topics

AT = "2026-01-01T09:00:00.000Z"
TOUCHES, SENDS = topics.touches("bulk"), topics.sends("email", "bulk")
Record = tuple[str, str, dict[str, Any], dict[str, str]]


class Story:
    """`events` loud calls and one identify, `touches` touches that are all sent and accepted."""

    def __init__(self, workspace: str, events: int = 5, touches: int = 4):
        self.workspace = workspace
        self.records: list[Record] = []
        marks = []
        for n in range(events):
            self.event(f"m-{n}", "track")
            self._put(topics.MEMBER_EVENTS, f"m-{n}", kind="track", id=f"e-{n}", event_id=f"m-{n}", timestamp=AT)
            marks.append(facts.digest(f"m-{n}"))
        self.event("m-silent", "identify")
        marks.append(facts.digest("m-silent"))
        slot = marks[-1][7] % facts.SLOTS
        times = (1_767_258_000).to_bytes(4, "big") * len(marks)
        seen = [base64.b64encode(part).decode() for part in (b"".join(marks), times)]
        self.records.append((topics.IDENTITIES, f"d:{workspace}:s1:{slot}", seen, {}))  # type: ignore[arg-type]
        for n in range(touches):
            t = f"t-{n}"
            self._put(TOUCHES, t, touch_id=t, kind="touch")
            self._put(topics.DECISIONS, t, touch_id=t, attempt=1, verdict="send", decision_id=f"d-{n}")
            self._put(SENDS, t, touch_id=t, attempt=1, decision_id=f"d-{n}")
            self._put(topics.DELIVERIES, t, touch_id=t, attempt=1, status="accepted", id=f"v-{n}")

    def event(self, id: str, kind: str) -> None:
        self._put(topics.EVENTS, id, type=kind, message_id=id, sender="s1", timestamp=AT, received_at=AT)

    def _put(self, topic: str, at: str, /, **value: Any) -> None:
        self.records.append((topic, f"{self.workspace}:{at}", {"workspace": self.workspace, **value}, {}))

    def _find(self, topic: str, id: str) -> int:
        return next(i for i, (t, k, _, _) in enumerate(self.records) if t == topic and k.endswith(f":{id}"))

    def drop(self, topic: str, id: str) -> None:
        """Take a record out of the log."""
        del self.records[self._find(topic, id)]

    def again(self, topic: str, at: str, /, **changed: Any) -> None:
        """Write a record once more, with other fields if told."""
        topic, key, value, headers = self.records[self._find(topic, at)]
        self.records.append((topic, key, {**value, **changed}, headers))

    def dead(self, topic: str, id: str) -> None:
        """Its consumer gave a record up."""
        offset = self.offset(topic, id)
        headers = {"rondo-dlq-topic": topic, "rondo-dlq-partition": "0", "rondo-dlq-offset": str(offset),
                   "rondo-dlq-reason": "handler_error"}  # fmt: skip
        self.records.append((topics.dlq(topic), f"{self.workspace}:{id}", {}, headers))

    def offset(self, topic: str, id: str) -> int:
        """Where a record lies, when nothing else is in its topic."""
        at = self._find(topic, id)
        return sum(t == topic for t, _, _, _ in self.records[:at])

    def encoded(self) -> list[tuple[str, str, bytes, list[tuple[str, bytes]]]]:
        """The records as a producer takes them."""
        return [(t, k, json.dumps(v).encode(), [(n, x.encode()) for n, x in h.items()]) for t, k, v, h in self.records]
