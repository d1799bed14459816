"""Running a stage: check what it stands on, make the clients, run the loop, say with what code it ended.

    code = run_stage(stage, settings, clock)                      # in this thread, until stopped

Beside servers: `runner.StageRunner`.

Exit codes (STREAMS 9): 0 stopped in order; 1 something failed that a new process may overcome, the
supervisor starts it again with growing pauses; 2 refused: the set-up is wrong, and the log says what.

A slot (`settings.slot`) is one worker's place: its transactional.id and group.instance.id. Within one
machine a locked file keeps two processes out of one slot; over machines the supervisor does (a
StatefulSet's ordinal), and in every case a second one fences the first (STREAMS 8).
"""

import fcntl
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from rondo_common import kafka, redis_client
from rondo_common.settings import Settings
from rondo_common.stage import Stage
from rondo_common.streams.assignment import OtherTopics, check_group
from rondo_common.streams.commit import Fatal, Transactions
from rondo_common.streams.deadletters import SUFFIX, TooMany, default_topic
from rondo_common.streams.decide import StageParts
from rondo_common.streams.effector import Effector
from rondo_common.streams.idle import Idle
from rondo_common.streams.loop import BATCH, Clients, Loop
from rondo_common.streams.marks import Marks
from rondo_common.streams.restore import Origin, Restorer
from rondo_common.streams.store import Store
from rondo_common.streams.watchdog import Watchdog

log = logging.getLogger("rondo.streams")

START_S = 60.0
"""How long a starting worker waits for Kafka and Redis to answer."""
KAFKA_S = 5.0
"""How long it waits for Kafka before it says so."""
GC_THRESHOLD = 200_000
"""A batch makes tens of thousands of objects, nearly all of which are gone at its end. Looking for cycles among
them in its midst costs a fifth of the CPU at Python's default of 700, a tenth at 20,000."""
RESTORE_KB = 16_384
"""What the restore consumer may hold ahead: enough to keep it busy, a quarter of librdkafka's default."""
OK, FAILED, REFUSED = 0, 1, 2

T = TypeVar("T")


class Refused(Exception):
    """The set-up is wrong: no use in trying again."""


def group_of(stage: str) -> str:
    """The consumer group of a stage."""
    return f"rondo.{stage}"


def run_stage(
    stage: Stage,
    settings: Settings,
    clock: Any,
    effector: Effector | None = None,
    stop_event: threading.Event | None = None,
    started: Callable[[Loop], None] | None = None,
    batch: int = BATCH,
    hung: Callable[[int], None] = os._exit,
    waits: Callable[[str], None] = lambda _: None,
) -> int:
    """Run `stage` until `stop_event` is set; the exit code. `started` is given the loop before
    it runs, `waits` who does not answer until then; `hung` ends the process when the Kafka client hangs."""
    stop = stop_event or threading.Event()
    try:
        with _slot(settings, stage.name):
            return _run(stage, settings, clock, effector, stop, started, batch, hung, waits)
    except (Refused, OtherTopics, redis_client.WrongRedis) as e:
        log.error("%s refused to start: %s", stage.name, e)
        return REFUSED
    except TooMany as e:
        log.error("%s halted, nothing is lost: %s. See the dead-letter topics, then start it again", stage.name, e)
        return FAILED
    except Fatal as e:
        log.error("%s ends: %s", stage.name, e)
        return FAILED
    except Exception:
        log.exception("%s failed", stage.name)
        return FAILED


def _run(
    stage: Stage,
    settings: Settings,
    clock: Any,
    effector: Effector | None,
    stop: threading.Event,
    started: Callable[[Loop], None] | None,
    batch: int,
    hung: Callable[[int], None],
    waits: Callable[[str], None],
) -> int:
    parts = StageParts.of(stage)
    name = f"{stage.name}.{settings.slot}"
    admin = kafka.admin(settings.kafka, f"{name}.admin")
    redis = redis_client.connect(settings.redis)
    consumer = reader = None
    watchdog = None
    try:
        ask = _Patience(stage.name, stop, waits)
        cluster = ask(lambda: kafka.cluster_id(admin, KAFKA_S), f"Kafka at {settings.kafka}")
        if cluster is None:
            return OK
        origin = check_topics(admin, stage, settings.partitions, cluster)
        if ask(lambda: redis.ping() and redis_client.check_noeviction(redis) is None, "Redis") is None:
            return OK
        topics = [topic for lane in stage.lanes for topic in lane]
        ask(lambda: check_group(admin, group_of(stage.name), name, topics), "Kafka's group coordinator")
        transactions = Transactions(kafka.transactional_producer(settings.kafka, name))
        watchdog = Watchdog(stage.name, transactions, hung, FAILED)
        transactions.begin_slot()
        consumer = kafka.group_consumer(settings.kafka, group_of(stage.name), name)
        reader = kafka.reader(settings.kafka, f"{name}.restore", queued_max_messages_kbytes=RESTORE_KB)
        store = Store(redis, stage.name, parts.codec, getattr(stage, "indexed", None))
        restorer = Restorer(stage.name, origin, store, parts.codec, admin, reader)
        idle = Idle(stage.name, consumer, transactions, store, origin.keep_deletes_ms)
        marks = Marks(stage.name, settings.slot)
        clients = Clients(consumer, transactions, admin, store, restorer, idle, clock, marks, effector)
        loop = Loop(parts, clients, settings.partitions, batch)
        if started is not None:
            started(loop)
        if gc.get_threshold()[0] < GC_THRESHOLD:
            gc.set_threshold(GC_THRESHOLD, 20, 50)
            gc.freeze()  # what was imported stays
        loop.run(stop.is_set)
        return OK
    finally:
        if effector is not None:
            effector.stop()
        if watchdog is not None:
            watchdog.closing()
        for client in (consumer, reader):
            if client is not None:
                client.close()
        redis.close()
        if watchdog is not None:
            watchdog.over()


def check_topics(admin: AdminClient, stage: Stage, partitions: int, cluster: str) -> Origin:
    """Refused unless every topic of the stage is there with the right partition count (STREAMS 4 to 6)."""
    inputs = [topic for lane in stage.lanes for topic in lane]
    dead = {topic + SUFFIX for topic in (*inputs, default_topic(stage))}
    found = kafka.describe(admin, [*inputs, stage.state_topic, *dead])
    problems = [f"topic {t} does not exist" for t in (*inputs, stage.state_topic) if t not in found]
    problems += [
        f"topic {t} has {found[t].partitions} partitions, not {partitions}: the count is fixed at creation"
        for t in inputs
        if t in found and found[t].partitions != partitions
    ]
    if len(inputs) != len(set(inputs)):
        problems.append("a topic stands in two lanes")
    state = found.get(stage.state_topic)
    if state is not None and (state.partitions < stage.state_offset + partitions or state.partitions % partitions):
        problems.append(f"topic {stage.state_topic} has {state.partitions} partitions, not a multiple of {partitions}")
    config = {} if state is None else kafka.topic_config(admin, stage.state_topic)
    if state is not None and "compact" not in config["cleanup.policy"]:
        problems.append(f"topic {stage.state_topic} is not compacted: states would be lost")
    if problems:
        raise Refused("; ".join(problems))
    for topic in sorted(dead - found.keys()):
        log.warning(
            "%s: topic %s does not exist: a record that can't be processed will end the worker", stage.name, topic
        )
    keep = int(config["delete.retention.ms"])
    return Origin(stage.state_topic, stage.state_offset, cluster, found[stage.state_topic].id, keep)


class _Patience:
    """Asks what a worker stands on at its start until it answers, and says meanwhile who does not."""

    def __init__(self, stage: str, stop: threading.Event, waits: Callable[[str], None]):
        self._stage, self._stop, self._waits = stage, stop, waits

    def __call__(self, ask: Callable[[], T], what: str) -> T | None:
        """The answer; None when stopped. Fatal after a minute."""
        deadline, said = time.monotonic() + START_S, False
        while not self._stop.is_set():
            try:
                answer = ask()
                self._waits("")
                return answer
            except (KafkaException, redis_client.RedisError, OSError) as e:
                why = f"{what} does not answer: {e.args[0].str() if isinstance(e, KafkaException) else e}"
                if time.monotonic() > deadline:
                    raise Fatal(why) from e
                self._waits(why)
                if not said:
                    log.warning("%s: %s; it is asked again for %.0f s", self._stage, why, START_S)
                said = True
                self._stop.wait(0.2)
        return None


@contextmanager
def _slot(settings: Settings, stage: str) -> Iterator[None]:
    """Hold the slot on this machine. Refused while another live process holds it."""
    folder = Path(settings.data_dir) / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage}.{settings.slot}.lock"
    file: TextIO
    with open(path, "a+", encoding="ascii") as file:
        deadline = time.monotonic() + 5.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise Refused(f"slot {settings.slot} of {stage} is held by process {file.read().strip()}") from None
                time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
