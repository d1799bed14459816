"""All conversations, folded from rondo.community.v1. That log is the state: what was acknowledged there
has happened, whatever process dies; every instance reads all of it (rates are human)."""

import asyncio
import threading
import time

import msgspec

from rondo_common import ids, kafka, telemetry, topics
from rondo_common.records import CommunityEvent
from rondo_common.settings import Settings
from services.community.dialogue import fold
from services.community.model import Conversation

log = telemetry.logger(__name__)
_WAIT_S = 10.0


class Conversations:
    """The view. Reads in a thread of its own; questions come from the event loop."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._by_id: dict[tuple[str, str], Conversation] = {}
        self._latest: dict[str, Conversation] = {}
        self._seen: set[str] = set()
        self._changed = threading.Condition()
        self._caught_up = False
        self._stop = threading.Event()

    def ready(self) -> tuple[bool, str]:
        """Whether the log was read to its end once."""
        return (True, "") if self._caught_up else (False, "conversations are being read")

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Read the log until stopped."""
        consumer = kafka.reader(self._settings.kafka, "community-view")
        try:
            ends = kafka.assign_from_start(consumer, topics.COMMUNITY)
            at = dict.fromkeys(ends, 0)
            while not self._stop.is_set():
                self._caught_up = self._caught_up or all(at[p] >= end for p, end in ends.items())
                message = consumer.poll(0.2)
                if message is None:
                    continue
                if message.error():
                    if kafka.is_eof(message.error()):
                        at[message.partition()] = max(at[message.partition()], message.offset())
                    else:
                        log.warning("conversations can't be read", error=str(message.error()))
                    continue
                at[message.partition()] = message.offset() + 1
                self._take(msgspec.json.decode(message.value(), type=CommunityEvent))
        finally:
            consumer.close()

    def _take(self, event: CommunityEvent) -> None:
        key = (event.workspace, event.conversation_id)
        with self._changed:
            found = fold(self._by_id.get(key), event)
            self._seen.add(event.id)
            if found is not None:
                self._by_id[key] = found
                member = ids.member_key(event.workspace, event.member_id)
                latest = self._latest.get(member)
                if latest is None or latest.id == found.id or latest.opened_at <= found.opened_at:
                    self._latest[member] = found
            self._changed.notify_all()

    def latest(self, workspace: str, member_id: str) -> Conversation | None:
        """The member's newest conversation."""
        return self._latest.get(ids.member_key(workspace, member_id))

    def get(self, workspace: str, id: str) -> Conversation | None:
        return self._by_id.get((workspace, id))

    def seen(self, event_id: str) -> bool:
        return event_id in self._seen

    def list(self, workspace: str, member_id: str = "", status: str = "") -> list[Conversation]:
        """Newest first. One shows with its first message, which follows its opening at once."""
        found = [
            c
            for (w, _), c in self._by_id.copy().items()
            if c.messages
            and w == workspace
            and (not member_id or c.member_id == member_id)
            and (not status or c.status == status)
        ]
        return sorted(found, key=lambda c: (c.opened_at, c.id), reverse=True)

    async def until_seen(self, event_id: str) -> None:
        """Wait until an event that was acknowledged shows here. TimeoutError after 10 s."""
        if not self.seen(event_id):
            await asyncio.to_thread(self._wait, event_id)

    def _wait(self, event_id: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        with self._changed:
            while event_id not in self._seen:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"event {event_id} does not show")

    async def until_ready(self) -> None:
        """Wait until the log was read to its end once."""
        while not self._caught_up:
            await asyncio.sleep(0.05)
