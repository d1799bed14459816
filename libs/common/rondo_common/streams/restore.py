"""Bringing a partition's view in Redis up to its state topic. Crash, take-over and loss of Redis are
this one path (STREAMS 2, 6).

A restore asks for the end of the state partition including open transactions, and is done only when
everything up to there is decided and replayed. So a predecessor's commit that is still on its way is
never overlooked. The offsets to read on from are among the states (`~o`), so both are of one moment.

While a restore runs, the view's position reads "r:<offset>:<token>": readers see that it is not to be
used; another restore that takes over changes the token, and the first notices at its next write.
"""

import logging
import time
import uuid
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from rondo_common import kafka
from rondo_common.streams import metrics
from rondo_common.streams.codec import Codec
from rondo_common.streams.commit import Fatal
from rondo_common.streams.overlay import Lost
from rondo_common.streams.store import Applied, Change, Store, timer_changes

log = logging.getLogger("rondo.streams")

CHUNK = 5_000
"""Records that a step takes at most."""
STEP_BYTES = 4 * 1024 * 1024
"""And bytes, about: they lie in memory several times on their way into Redis."""
FIRST_CHUNK = 500
"""While nobody knows how large the states are."""
PENDING_S = kafka.TRANSACTION_MS / 1000 + 5
"""Longer than this no open transaction can keep a restore waiting: the time-out and the clean-up."""
RETRY_S = 0.25
OTHER = "somebody else changed the view"
RUBBISH = "unreadable"
"""Why a restore begins that is not to build on what is there."""


class Origin(NamedTuple):
    """Where the states come from. A view made from another cluster or topic is not used."""

    topic: str
    offset: int
    cluster: str
    topic_id: str
    keep_deletes_ms: int
    """delete.retention.ms: older positions may lack tombstones that are gone from the log."""


class Done(NamedTuple):
    """A restored partition: its position and what its timers say."""

    partition: int
    position: int
    applied: Applied


class _Job:
    """One partition being restored."""

    def __init__(self, partition: int, why: str):
        self.partition = partition
        self.why = why
        self.marker = ""
        self.start = 0
        self.next = -1
        self.target = -1
        self.ready_at = 0.0
        self.stuck_since: float | None = None
        self.pending: dict[str, bytes | None] = {}


class Restorer:
    """Restores partitions, all together with one consumer, a step at a time."""

    def __init__(self, stage: str, origin: Origin, store: Store, codec: Codec, admin: AdminClient, reader: Consumer):
        self._stage, self._origin, self._store, self._codec = stage, origin, store, codec
        self._admin, self._reader = admin, reader
        self._jobs: dict[int, _Job] = {}
        self._reading: set[int] = set()
        self._chunk = FIRST_CHUNK

    @property
    def active(self) -> bool:
        return bool(self._jobs)

    def progress(self) -> dict[int, float]:
        """Share of its log that each partition has replayed, 0 to 1."""
        return {
            p: 0.0 if job.next < 0 else min(1.0, (job.next - job.start) / max(1, job.target - job.start))
            for p, job in self._jobs.items()
        }

    def begin(self, partitions: Iterable[int], why: str) -> None:
        """Restore these partitions, which this worker was given."""
        for partition in partitions:
            self._drop_reading(partition)
            self._jobs[partition] = _Job(partition, why)
            metrics.RESTORES.labels(self._stage, why).inc()

    def cancel(self) -> None:
        """Forget all jobs: the partitions were given away."""
        for partition in list(self._jobs):
            self._drop_reading(partition)
        self._jobs.clear()

    def step(self, timeout: float) -> list[Done]:
        """Go on for about `timeout` seconds; the partitions that are done now. Fatal when an open
        transaction keeps one from being restored for longer than it can live."""
        now = time.monotonic()
        fresh = [j for j in self._jobs.values() if j.next < 0 and j.ready_at <= now]
        done = self._prepare(fresh) if fresh else []
        if self._reading:
            self._take(self._reader.consume(self._chunk, timeout))
        elif not done and self._jobs:
            time.sleep(min(timeout, 0.02))
        return done + self._flush([job for job in self._jobs.values() if job.next >= 0])

    # inside

    def _prepare(self, jobs: list[_Job]) -> list[Done]:
        """Find out where each job starts; some are done already."""
        places = {j.partition: (self._origin.topic, self._origin.offset + j.partition) for j in jobs}
        ends = kafka.end_offsets(self._admin, places.values())
        firsts = kafka.first_offsets(self._admin, places.values())
        complete = []
        for job in jobs:
            place = places[job.partition]
            job.target = ends[place]
            try:
                self._claim(job, firsts[place])
            except Lost as e:
                self._again(job, str(e))
                continue
            if job.next >= job.target:
                complete.append(job)
                continue
            self._reader.incremental_assign([TopicPartition(*place, job.next)])
            self._reading.add(job.partition)
        return self._flush(complete)

    def _claim(self, job: _Job, first: int) -> None:
        """Take over what the view holds if it can be built upon, else wipe it."""
        meta = self._store.meta(job.partition)
        token = uuid.uuid4().hex[:12]
        why = self._useless(meta.position, meta.cluster, meta.topic, meta.at, first, job.target)
        if job.why == RUBBISH:
            why = "there is rubbish in it"
        if why is not None:
            if meta.position:
                log.warning("%s partition %d: view wiped: %s", self._stage, job.partition, why)
            job.start = job.next = first
            job.marker = f"r:{first}:{token}"
            self._store.wipe(job.partition, job.marker, self._origin.cluster, self._origin.topic_id)
            return
        offset = int(meta.position.split(":")[1]) if meta.position.startswith("r:") else int(meta.position)
        marker = f"r:{offset}:{token}"
        if self._store.apply({job.partition: Change(meta.position, marker, {}, (), {})})[job.partition] is None:
            raise Lost(OTHER)
        job.marker, job.start, job.next = marker, offset, offset

    def _useless(self, position: str, cluster: str, topic: str, at: int, first: int, end: int) -> str | None:
        """Why a view can't be built upon, None if it can (STREAMS 6)."""
        if not position:
            return "empty"
        if (cluster, topic) != (self._origin.cluster, self._origin.topic_id):
            return "it was made from another cluster or topic"
        offset = int(position.split(":")[1]) if position.startswith("r:") else int(position)
        if offset < first or offset > end:
            return f"its position {offset} lies outside of the log, {first} to {end}"
        if offset < end and time.time() * 1000 - at > self._origin.keep_deletes_ms / 2:
            return "it is so old that deletions may be gone from the log"
        return None

    def _take(self, messages: list) -> None:
        now, size = time.monotonic(), 0
        for message in messages:
            job = self._jobs.get(message.partition() - self._origin.offset)
            if job is None:
                continue
            error = message.error()
            if error is None:
                key, value = message.key(), message.value()
                job.pending[key.decode()] = value
                size += len(key) + len(value or b"")
                job.next = message.offset() + 1
                job.stuck_since = None
            elif error.code() == KafkaError._PARTITION_EOF:
                job.next = max(job.next, message.offset())
                if job.next < job.target and job.stuck_since is None:
                    job.stuck_since = now
            elif error.fatal() or error.code() == KafkaError._FATAL:
                raise Fatal(f"restore: {error}")
            else:
                log.warning("%s: restore: %s", self._stage, error)
        if size:
            self._chunk = max(1, min(CHUNK, STEP_BYTES * len(messages) // size))

    def _flush(self, jobs: Iterable[_Job]) -> list[Done]:
        """Write what was read, of all partitions in one round trip; those that are at the end of the log."""
        changes: dict[int, Change] = {}
        for job in jobs:
            if job.pending or job.next >= job.target:
                changes[job.partition] = self._change(job)
            elif job.stuck_since is not None and time.monotonic() - job.stuck_since > PENDING_S:
                raise Fatal(
                    f"{self._stage} partition {job.partition}: an open transaction ends the log at {job.next}, "
                    f"before {job.target}, for more than {PENDING_S:.0f} s"
                )
        if not changes:
            return []
        try:
            answers = self._store.apply(changes)
        except Lost as e:
            for partition in changes:
                self._again(self._jobs[partition], str(e))
            return []
        done = []
        for partition, applied in answers.items():
            job, change = self._jobs[partition], changes[partition]
            if applied is None:
                self._again(job, OTHER)
                continue
            metrics.RESTORED.labels(self._stage).inc(len(change.states))
            job.marker = change.position
            if job.next >= job.target:
                self._drop_reading(partition)
                del self._jobs[partition]
                done.append(Done(partition, job.next, applied))
        return done

    def _change(self, job: _Job) -> Change:
        """What a job has read since the last one."""
        states, job.pending = job.pending, {}
        position = str(job.next) if job.next >= job.target else f"r:{job.next}:{job.marker.rpartition(':')[2]}"
        fresh = [key for key, raw in states.items() if raw is not None]
        return Change(job.marker, position, states, fresh, timer_changes(self._codec, states))

    def _again(self, job: _Job, why: str) -> None:
        """Begin this job anew in a moment."""
        log.warning("%s partition %d: restore begins again: %s", self._stage, job.partition, why)
        self._drop_reading(job.partition)
        fresh = _Job(job.partition, job.why)
        fresh.ready_at = time.monotonic() + RETRY_S
        self._jobs[job.partition] = fresh

    def _drop_reading(self, partition: int) -> None:
        if partition in self._reading:
            self._reading.discard(partition)
            self._reader.incremental_unassign([TopicPartition(self._origin.topic, self._origin.offset + partition)])
