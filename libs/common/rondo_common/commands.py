"""Writing to rondo.commands.v1: what people ask for, acknowledged before anybody gets a 2xx.

A command about a member goes to the member's partition. A command about a definition, a campaign or
the stop switch goes to every partition as a copy of its own, so that each partition knows it at a
stated place in its own order (STREAMS 20).

    writer = CommandWriter(settings, clock)
    await writer.to_all(Command(kind="campaign.pause", ...))
    await writer.to_members([Command(kind="trigger", member_id=..., ...), ...])
"""

import asyncio
from collections.abc import Sequence

import msgspec

from rondo_common import ids, kafka, topics
from rondo_common.clock import Clock, iso
from rondo_common.problems import unavailable
from rondo_common.records import Command
from rondo_common.settings import Settings

ACK_S = 10.0
"""Longest wait for the broker's acknowledgement before the caller hears 503."""


class CommandWriter:
    """Writes commands with acks=all. One per process; safe to use from any thread or task."""

    def __init__(self, settings: Settings, clock: Clock):
        self._clock = clock
        self._partitions = settings.partitions
        self._producer = kafka.producer(settings.kafka, f"{settings.service or 'rondo'}-commands")

    async def to_all(self, command: Command) -> None:
        """One copy to every partition. Problem 503 when the broker did not acknowledge in time; then
        some copies may have arrived: repeating the same command changes nothing."""
        key = f"{command.workspace}:{command.kind}:{command.campaign or command.run_id or command.id}"
        await asyncio.to_thread(self._write, [(key, command, p) for p in range(self._partitions)])

    async def to_members(self, commands: Sequence[Command]) -> None:
        """Each to the partition of its member. Problem 503 as above."""
        rows = [(ids.member_key(c.workspace, c.member_id or ""), c, None) for c in commands]
        await asyncio.to_thread(self._write, rows)

    def _write(self, rows: Sequence[tuple[str, Command, int | None]]) -> None:
        now = self._clock.now()
        failures: list[str] = []

        def done(error: object, _: object) -> None:
            if error is not None:
                failures.append(str(error))

        for key, command, partition in rows:
            place = {} if partition is None else {"partition": partition}
            headers = {
                "ce_specversion": "1.0",
                "ce_id": command.id if partition is None else f"{command.id}.{partition}",
                "ce_source": "/rondo/commands",
                "ce_type": command.kind,
                "ce_time": iso(now),
                "content-type": "application/json",
            }
            value = msgspec.json.encode(command)
            while True:
                try:
                    self._producer.produce(
                        topics.COMMANDS,
                        key=key,
                        value=value,
                        headers=headers,
                        timestamp=now,
                        on_delivery=done,
                        **place,
                    )
                    break
                except BufferError:  # the client's queue is full: let it drain
                    self._producer.poll(0.05)
            self._producer.poll(0)
        if self._producer.flush(ACK_S) or failures:
            raise unavailable("Kafka", failures[0] if failures else f"No acknowledgement within {ACK_S:.0f} s")

    def close(self) -> None:
        self._producer.flush(2.0)
