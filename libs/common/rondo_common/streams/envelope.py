"""The headers of a derived record: CloudEvents 1.0 in Kafka's binary mode, traceparent and depth."""

from functools import lru_cache

from rondo_common import clock, ids, tracing
from rondo_common.outcomes import Emit
from rondo_common.stage import Input, Record, Result, Results

MAX_DEPTH = 16
"""Records derived from one another more often than this go in a circle: dead letter `loop`."""

Headers = list[tuple[str, bytes]]
_HEX = frozenset("0123456789abcdef")
_DEPTH_OF = {str(depth): depth for depth in range(MAX_DEPTH + 1)}


@lru_cache(maxsize=4096)
def iso(ms: int) -> bytes:
    """`clock.iso` as bytes, for many times near each other."""
    return clock.iso(ms).encode()


@lru_cache(maxsize=4096)
def _time(ms: int) -> tuple[str, bytes]:
    return "ce_time", iso(ms)


def depth_of(item: Input) -> int:
    """How many records deep in a chain of causes `item` is. Timers and answers begin anew."""
    if type(item) is not Record:
        return 0
    text = item.headers.get("depth")
    if text is None:
        return 0
    depth = _DEPTH_OF.get(text)
    if depth is None:
        depth = int(text) if text.isdecimal() else 0
    return depth


def _begun(item: Input, id: str) -> bytes:
    """The traceparent of what no traced record caused (a timer, an answer): a trace of its own, the same for
    every replay. Each answer begins one, named by the record it causes."""
    h = id.replace("-", "") if type(item) is Result or type(item) is Results else ""
    if len(h) != 32 or not _HEX.issuperset(h):
        h = ids.derived(item.cause, "trace").replace("-", "")
    return f"00-{h}-{h[16:]}-01".encode()


class Envelope:
    """Makes headers for the records of one stage."""

    def __init__(self, stage: str):
        self._stage = stage
        self._source = f"/rondo/{stage}".encode()
        self._fixed: dict[tuple[str, str, int], Headers] = {}
        self._reported = ""

    def headers(self, emit: Emit, item: Input, depth: int, index: int, time: int) -> Headers:
        """Headers of the `index`-th record that `item` caused, `depth` deep itself, written at `time`."""
        fixed = self._fixed.get((emit.type, emit.verdict, depth))
        if fixed is None:
            fixed = self._fixed[emit.type, emit.verdict, depth] = [
                ("ce_specversion", b"1.0"),
                ("ce_source", self._source),
                ("content-type", b"application/json"),
                ("ce_type", emit.type.encode()),
                ("depth", b"%d" % (depth + 1)),
            ]
            if emit.verdict:
                fixed.append(("verdict", emit.verdict.encode()))
        id = emit.id or ids.derived(item.cause, f"{self._stage}:{index}")
        trace = item.headers.get("traceparent") if type(item) is Record else None
        if trace and tracing.on():
            trace = self._traced(item, trace)
        begun = "traceparent", trace.encode() if trace else _begun(item, id)
        if not emit.subject:
            return [*fixed, ("ce_id", id.encode()), _time(time), begun]
        return [*fixed, ("ce_id", id.encode()), _time(time), ("ce_subject", emit.subject.encode()), begun]

    def _traced(self, item: Record, trace: str) -> str:
        """The traceparent of what `item` causes: below a span that lasts from the record's arrival in its
        topic until now, reported once a record. Its id follows from the record, so a replay has the same."""
        if not tracing.kept(trace):
            return trace
        own = tracing.child(trace, ids.derived(item.cause, f"{self._stage}:span").replace("-", "")[:16])
        if own != self._reported:
            self._reported = own
            place: tracing.Attributes = {
                "messaging.system": "kafka",
                "messaging.destination.name": item.topic,
                "messaging.destination.partition.id": str(item.partition),
                "messaging.kafka.offset": item.offset,
            }
            name = f"{self._stage} process {item.topic}"
            tracing.report(name, tracing.CONSUMER, own, trace, item.time * 1_000_000, 0, place)
        return own
