"""Reads the log into a ledger, with kafka-python only and in one pass over each topic."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rondo_cli import broker
from rondo_cli.audit import facts
from rondo_cli.audit.checks import Finding, offset_findings
from rondo_cli.audit.facts import Place
from rondo_cli.audit.ledger import Ledger
from rondo_cli.backlog import expected
from rondo_cli.broker import TopicPartition
from rondo_cli.errors import Failure
from rondo_common import topics
from rondo_common.catalogue import TOPICS

CAUSES = (topics.EVENTS, topics.REJECTED, *(topics.touches(lane) for lane in topics.LANES))
"""Topics the end of the range cuts; what came of their records is read to the log's end."""
STAGES = ("profiles", "rhythm", "delivery-email", "delivery-sms", "delivery-messaging")
_OPEN = ("queued", "held", "submitting", "retry", "unknown")
_TOUCH = re.compile(rb'"([0-9a-f]{8}-[0-9a-f-]{27}(?::[a-z]+)?)"')
HANG_MS = 15 * 60_000
"""Kafka's default transaction.max.timeout.ms: an older open transaction hangs."""


@dataclass(frozen=True)
class Range:
    """Record times, in ms: [start, stop). `workspace` None: all of them."""

    start: int | None = None
    stop: int | None = None
    workspace: str | None = None


@dataclass
class Log:
    """Offsets as they were when the audit began. Committed ones are read before the ends, so that whatever
    a group has committed, its outputs lie before the ends."""

    bootstrap: str
    committed: dict[str, dict[TopicPartition, int]] = field(default_factory=dict)
    first: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    hanging: list[dict[str, Any]] = field(default_factory=list)

    def range_of(self, names: Iterable[str], whole: bool = False) -> dict[TopicPartition, tuple[int, int]]:
        """[from, to) of each partition of topics; `whole`: from the log's beginning."""
        wanted = set(names)
        begins = self.first if whole else self.begins
        return {tp: (begins[tp], end) for tp, end in self.ends.items() if tp.topic in wanted}


def look(bootstrap: str, wanted: Range) -> Log:
    """Offsets, groups and transactions. KafkaError when nobody answers."""
    log = Log(bootstrap)
    with broker.admin(bootstrap) as client:
        there = broker.topic_names(client) & set(TOPICS)
        log.committed = broker.committed(client, sorted(expected(STAGES)))
        where = broker.all_partitions(client, there)
        log.ends, log.first = broker.ends(client, where), broker.starts(client, where)
        log.begins = dict(log.first)
        if wanted.start is not None and where:
            found = client.list_partition_offsets(dict.fromkeys(where, wanted.start))
            log.begins = {tp: a.offset if a.offset >= 0 else log.ends[tp] for tp, a in found.items()}
        log.hanging = client.find_hanging_transactions(max_transaction_timeout_ms=HANG_MS)
    return log


def fill(ledger: Ledger, log: Log, wanted: Range, accepted: Iterable[str] = ()) -> None:
    """Everything the checks ask for."""
    ledger.extend("accepted", ((id,) for id in accepted))
    for group, offsets in log.committed.items():
        ledger.extend("committed", ((group, tp.topic, tp.partition, at) for tp, at in offsets.items()))
    names = facts.TOPICS | {topics.dlq(name) for name in facts.TOPICS}
    for record in _read(log, log.range_of(names)):
        place = Place(record.topic, record.partition, record.offset, record.timestamp)
        if wanted.stop is not None and record.topic in CAUSES and record.timestamp >= wanted.stop:
            continue
        if wanted.workspace is not None and not _of(record, wanted.workspace):
            continue
        for row in facts.rows(place, dict(record.headers or ()), record.value):
            ledger.add(row)
    ledger.seal()
    _marks(ledger, log)
    _agenda(ledger, log)
    _open_sends(ledger, log)
    ledger.seal()


def _of(record: Any, workspace: str) -> bool:
    return (record.key or b"").startswith(workspace.encode() + b":")


def _read(log: Log, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[Any]:
    """The records of every range, all of them: an audit that stops short would call the rest holes."""
    reached = {tp: begin for tp, (begin, end) in ranges.items() if begin < end}
    yield from broker.records(log.bootstrap, ranges, timeout_s=60.0, reached=reached)
    short = [tp for tp, at in reached.items() if at < ranges[tp][1]]
    if short:
        raise Failure(f"the broker gave nothing for 60 s; {len(short)} partitions are not read to their end")


_UNSEEN = """
    NOT EXISTS (SELECT 1 FROM effect x WHERE x.id = e.id AND x.workspace = e.workspace AND x.kind = e.type)"""


def _marks(ledger: Ledger, log: Log) -> None:
    """Of calls without a member event of their kind: whether and when profiles marked their message id as
    seen. A mark once seen counts, also when a later version of the state has cut it as too old."""
    if not ledger.one(f"SELECT count(*) FROM event e WHERE {_UNSEEN}"):
        return
    question = f"SELECT DISTINCT mark FROM event e WHERE mark_key = ? AND {_UNSEEN}"
    for record in _read(log, log.range_of([topics.IDENTITIES], whole=True)):
        key = (record.key or b"").decode(errors="replace")
        if record.value is None or not key.startswith("d:"):
            continue
        for (mark,) in ledger.ask(question, key):
            since = facts.marked(record.value, mark)
            if since is not None:
                ledger.extend("mark_seen", [(key, mark, since)])


def _agenda(ledger: Ledger, log: Log) -> None:
    """Touches that wait: on the newest agenda of each member, or on their way to the winner of a merge."""
    if not ledger.one("SELECT count(*) FROM touch t WHERE NOT EXISTS (SELECT 1 FROM decision d WHERE d.touch_id = t.touch_id)"):  # fmt: skip
        return
    with _Newest() as newest:
        for record in _read(log, log.range_of([topics.RHYTHM], whole=True)):
            if (record.key or b"").startswith(b"m:"):
                newest.put(record.key, record.value)
        for value in newest.values():
            ledger.extend("agenda", ((slot[0],) for slot in _decoded(value).get("agenda", ())))
    read = log.committed.get("rondo.rhythm", {})
    moving = {tp: (max(begin, read.get(tp, begin)), end) for tp, (begin, end) in log.range_of([topics.MOVES], True).items()}  # fmt: skip
    for record in _read(log, moving):
        ledger.extend("agenda", ((found.decode(),) for found in _TOUCH.findall(record.value or b"")))


def _open_sends(ledger: Ledger, log: Log) -> None:
    """Sends that delivery has begun and not ended."""
    if not ledger.one("SELECT count(*) FROM send"):
        return
    with _Newest() as newest:
        for record in _read(log, log.range_of([topics.SENDS_STATE], whole=True)):
            if (record.key or b"").startswith(b"o:"):
                newest.put(record.key, record.value)
        for key, value in newest.items():
            status = _decoded(value).get("status")
            if status in _OPEN:
                ledger.extend("open_send", [(key.decode()[2:], status)])


def _decoded(value: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


class _Newest:
    """The newest value of each key of a compacted topic, in a temporary SQLite file."""

    def __init__(self) -> None:
        import sqlite3

        self._db = sqlite3.connect("")
        self._db.execute("CREATE TABLE newest (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def __enter__(self) -> "_Newest":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM newest WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO newest VALUES (?, ?)", (key, value))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._db.execute("SELECT key, value FROM newest")

    def values(self) -> Iterator[bytes]:
        return (value for _, value in self.items())


def broker_findings(log: Log) -> Iterator[Finding]:
    """What offsets and transactions say."""
    yield from offset_findings(
        {(g, tp.topic, tp.partition): at for g, offsets in log.committed.items() for tp, at in offsets.items()},
        {(tp.topic, tp.partition): at for tp, at in log.first.items()},
        {(tp.topic, tp.partition): at for tp, at in log.ends.items()},
    )
    for one in log.hanging:
        parts = ", ".join(f"{t}:{p}" for t, p in one["topic_partitions"])
        detail = f"open for {one['age_ms'] // 60_000} min ({one['state']}) on {parts}; readers wait before it"
        yield Finding("hanging_transaction", one["transactional_id"], detail)
