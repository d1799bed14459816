"""The Faust agents: inbound messages find their member, work changes conversations.

Bodies never raise: a failure is tried again with growing pauses, what can't be read goes to the dead
letters (awaited), and when even that fails the process ends with the event unacknowledged.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rondo_common import ids, telemetry, topics
from rondo_common.clock import Clock, iso
from rondo_common.faust_safe import make_app, murmur2_partition
from rondo_common.problems import Problem
from rondo_common.records import Command, CommunityEvent, Inbound
from rondo_common.settings import Settings
from services.community.dialogue import decide
from services.community.model import Work
from services.community.store import Conversations

GROUP = "rondo.community"
TRIES = 8
"""Tries with pauses from 0.1 s doubling to 5 s: about 20 s in all, then a dead letter."""

log = telemetry.logger(__name__)
Lookup = Callable[[str, Inbound], Awaitable[str | None]]
"""(workspace, message) -> the member who sent it, None when nobody has the address. May raise Problem."""


class Agents:
    """The Faust app with its two agents."""

    def __init__(self, settings: Settings, clock: Clock, store: Conversations, lookup: Lookup):
        self._clock, self._store, self._lookup = clock, store, lookup
        self._partitions = settings.partitions
        self.app = make_app(GROUP, settings.kafka, settings.partitions, asyncio.get_running_loop())
        self._inbound = self.app.topic(topics.INBOUND, key_type=bytes, value_type=bytes)
        self._work = self.app.topic(topics.COMMUNITY_WORK, key_type=bytes, value_type=bytes)
        self.app.agent(self._inbound, name="inbound")(self._on_inbound)
        self.app.agent(self._work, name="work")(self._on_work)

    async def _on_inbound(self, stream: Any) -> None:
        async for event in stream.events():
            await self._safely(event, self._forward)

    async def _on_work(self, stream: Any) -> None:
        async for event in stream.events():
            await self._safely(event, self._apply)

    async def _forward(self, value: bytes) -> None:
        """An inbound message becomes work for its member. Keywords (STOP and the like) open no
        conversation; an unknown address has no member to talk with."""
        inbound = msgspec.json.decode(value, type=Inbound)
        if inbound.keyword:
            return
        member = inbound.member_id or await self._lookup(inbound.workspace, inbound)
        if member is None:
            log.info("inbound message of nobody we know", channel=inbound.channel)
            return
        work = Work(
            "inbound",
            inbound.id,
            inbound.workspace,
            member,
            inbound.at,
            inbound.channel,
            inbound.text,
            inbound.touch_id,
        )
        await self.put(work)

    async def _apply(self, value: bytes) -> None:
        """Do the work: write its events, and for a reply the command that sends it."""
        work = msgspec.json.decode(value, type=Work)
        await self._store.until_ready()
        current = self._store.latest(work.workspace, work.member_id)
        key = ids.member_key(work.workspace, work.member_id)
        if work.kind == "reply":
            conversation = self._store.get(work.workspace, work.conversation_id or "")
            if conversation is not None:
                # before the event: a repeat of the command changes nothing, a lost one would
                await self._send(topics.COMMANDS, key, reply_command(work, conversation.channel), work.id)
        for event in decide(work, current):
            if not self._store.seen(event.id):
                await self._send(topics.COMMUNITY, key, event, event.id)
                await self._store.until_seen(event.id)

    async def put(self, work: Work) -> None:
        """Write work; returns when it is acknowledged."""
        await self._send(topics.COMMUNITY_WORK, ids.member_key(work.workspace, work.member_id), work, work.id)

    async def _send(self, topic: str, key: str, value: Command | CommunityEvent | Work, id: str) -> None:
        now = self._clock.now()
        headers = {
            "ce_specversion": b"1.0",
            "ce_id": id.encode(),
            "ce_source": b"/rondo/community",
            "ce_type": value.kind.encode(),
            "ce_time": iso(now).encode(),
            "content-type": b"application/json",
        }
        sent = await self.app.producer.send_and_wait(
            topic,
            key.encode(),
            msgspec.json.encode(value),
            murmur2_partition(key, self._partitions),
            now / 1000,
            headers,
        )
        assert sent is not None

    async def _safely(self, event: Any, work: Callable[[bytes], Awaitable[None]]) -> None:
        for n in range(TRIES):
            try:
                await work(event.value)
                return
            except (msgspec.DecodeError, UnicodeDecodeError) as e:
                await self._dead_letter(event, "unreadable", str(e))
                return
            except Exception as e:
                transient = not isinstance(e, Problem) or e.status in (502, 503)
                log.warning("work failed", attempt=n + 1, error=f"{type(e).__name__}: {e}")
                if not transient:
                    await self._dead_letter(event, "handler_error", str(e))
                    return
                await asyncio.sleep(min(0.1 * 2**n, 5.0))
        await self._dead_letter(event, "handler_error", f"{TRIES} tries failed")

    async def _dead_letter(self, event: Any, reason: str, detail: str) -> None:
        message = event.message
        headers = {
            "rondo-dlq-reason": reason.encode(),
            "rondo-dlq-detail": detail[:500].encode(),
            "rondo-dlq-topic": message.topic.encode(),
            "rondo-dlq-partition": str(message.partition).encode(),
            "rondo-dlq-offset": str(message.offset).encode(),
            "rondo-dlq-stage": b"community",
            "rondo-dlq-time": iso(self._clock.now()).encode(),
        }
        try:
            await self.app.producer.send_and_wait(
                topics.dlq(message.topic),
                message.key,
                message.value,
                message.partition,
                self._clock.now() / 1000,
                headers,
            )
        except Exception:
            log.exception("the dead letter could not be written; ending with the event unacknowledged")
            os._exit(1)


def reply_command(work: Work, channel: str) -> Command:
    """The operator's answer as a transactional message on the conversation's channel."""
    part = {"subject": "Re: your message", "text": work.text} if channel == "email" else {"text": work.text}
    return Command(
        kind="send",
        workspace=work.workspace,
        id=work.id,
        at=work.at,
        actor=work.actor or "",
        member_id=work.member_id,
        channel=channel,
        content=msgspec.Raw(msgspec.json.encode({channel: part})),
        touch_id=work.touch_id,
        run_id=f"reply-{work.conversation_id}",
    )
