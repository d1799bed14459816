"""Several inputs in one batch: one overlay for all (STREAMS 10), and what is taken back."""

from collections.abc import Sequence

import msgspec
import pytest

from rondo_common.outcomes import Drop
from rondo_common.stage import Record
from rondo_common.streams.codec import Codec, Sweep
from rondo_common.streams.decide import STUCK_TIMER, Decision, StageParts, plan
from rondo_common.streams.overlay import Lost, Memory
from tests.support.toy_stage import Ask, Count, ToyStage

T = 1_000_000
STAGE = ToyStage(log=0)


def decide(
    asks: Sequence[Ask],
    stored: dict[str, bytes] | None = None,
    stage: ToyStage = STAGE,
    careful: bool = True,
    memory: Memory | None = None,
) -> Decision:
    stored = stored or {}
    d = Decision(
        StageParts.of(stage), memory or Memory(), lambda keys: {k: stored.get(k) for k in keys}, 0, 4, T, careful
    )
    for i, ask in enumerate(asks):
        record = Record(stage.input, 0, i, ask.key, msgspec.json.encode(ask), T + i)
        d.handle(plan(stage, record, T))
    return d


def counts(d: Decision) -> dict[str, int]:
    return {k: msgspec.json.decode(raw)["n"] for k, raw in d.changes().items() if raw and k.startswith("c:")}


def test_later_records_see_earlier_changes() -> None:
    d = decide([Ask("a"), Ask("b", add=5), Ask("a")], {"c:a": b'{"n":10}'})
    assert counts(d) == {"c:a": 12, "c:b": 5}
    assert [o.emit.value.n for o in d.outs] == [11, 5, 12]


@pytest.mark.parametrize("do", ["dead", "raise", "unencodable"])
def test_a_dead_lettered_record_leaves_nothing_and_hurts_nobody(do: str) -> None:
    d = decide([Ask("a"), Ask("a", add=100, do=do), Ask("a")])
    assert counts(d) == {"c:a": 2}
    assert [o.emit.value.n for o in d.outs] == [1, 2]
    assert len(d.dead) == 1 and d.dead[0].item.offset == 1


def test_a_state_that_cant_be_encoded_shows_at_the_end_unless_careful() -> None:
    d = decide([Ask("a", do="unencodable")], careful=False)
    with pytest.raises(TypeError):
        d.changes()


def test_states_that_end_as_they_were_are_not_written() -> None:
    d = decide([Ask("a", add=0)], {"c:a": msgspec.json.encode(Count(3))})
    assert d.changes() == {}


def test_what_is_dropped_as_it_is_read_is_counted_and_touches_nothing() -> None:
    class Choosy(ToyStage):
        def read(self, record: Record) -> object:
            return Drop("inside") if record.headers.get("ce_type") == "inside" else super().read(record)

    d, stage = decide([]), Choosy(log=0)
    record = Record(stage.input, 0, 0, "a", b"can't be read", T, {"ce_type": "inside"})
    planned = plan(stage, record, T)
    assert planned.failed is None and not planned.touches.keys
    assert d.handle(planned)
    assert d.drops == {"inside": 1} and d.handled == {"Record": 1} and not d.outs and d.changes() == {}


def test_ids_follow_from_the_cause_alone() -> None:
    first, again = (decide([Ask("a"), Ask("b")]) for _ in range(2))
    ids = [dict(o.headers)["ce_id"] for o in first.outs]
    assert ids == [dict(o.headers)["ce_id"] for o in again.outs] and len(set(ids)) == 2


def test_the_trace_goes_on_and_the_depth_grows() -> None:
    d = decide([])
    record = Record(STAGE.input, 0, 0, "a", b'{"key":"a"}', T, {"traceparent": "00-ab-cd-01", "depth": "3"})
    d.handle(plan(STAGE, record, T))
    headers = dict(d.outs[0].headers)
    assert headers["traceparent"] == b"00-ab-cd-01" and headers["depth"] == b"4"


def test_a_timer_that_sets_itself_without_end_is_stopped() -> None:
    timers = {"every0": [T - 5, ""]}
    memory = Memory()
    memory.timers = 1
    d = decide([Ask("a")], {"~t:a": msgspec.json.encode(timers)}, memory=memory)
    assert d.dead[0].reason == "handler_error" and "without end" in d.dead[0].detail
    assert counts(d)["c:a"] <= STUCK_TIMER + 10


def test_lost_states_come_out_and_are_no_dead_letter() -> None:
    def fetch(keys: Sequence[str]) -> dict[str, bytes | None]:
        raise Lost("told to")

    d = Decision(StageParts.of(STAGE), Memory(), fetch, 0, 4, T)
    with pytest.raises(Lost):
        d.handle(plan(STAGE, Record(STAGE.input, 0, 0, "a", b'{"key":"a"}', T), T))


def test_a_sweep_meets_what_the_batch_makes_ahead_of_it_and_not_behind() -> None:
    memory = Memory()
    memory.sweeps["s"] = Sweep("c:", b"100", 3, T, "one", "c:c")
    stored = {f"c:{k}": b'{"n":1}' for k in "abcdfz"}
    d = decide([Ask("aa"), Ask("e"), Ask("x")], stored, memory=memory)
    d.sweep("s", ["c:d", "c:f"], False)
    assert counts(d) == {"c:aa": 1, "c:d": 101, "c:e": 101, "c:f": 101, "c:x": 1}
    assert d.overlay.changed["~s:s"].cursor == "c:f"


def test_a_sweep_passes_over_what_was_deleted() -> None:
    memory = Memory()
    memory.sweeps["s"] = Sweep("c:", b"100", 9, T, "one")
    d = decide([Ask("a", do="delete")], {"c:a": b'{"n":1}', "c:b": b'{"n":1}'}, memory=memory)
    d.sweep("s", ["c:a", "c:b"], True)
    assert counts(d) == {"c:b": 101} and d.changes()["c:a"] is None


def test_types_by_prefix() -> None:
    codec = Codec({"m": Count, "g": Count, "g:def": Ask})
    assert codec.prefix("g:def:x:y") == "g:def" and codec.prefix("g:run:1") == "g" and codec.prefix("m:def:1") == "m"
    with pytest.raises(KeyError):
        codec.prefix("x:1")
