"""Answers of the effector that come together: the same as one by one, and a bad one hurts nobody."""

from collections.abc import Iterator
from typing import Any

from rondo_common.outcomes import Outcome
from rondo_common.stage import Input, Result, Results, States, Touches
from rondo_common.streams.decide import Decision, StageParts
from rondo_common.streams.overlay import Memory
from rondo_common.streams.plan import plan_all
from tests.support.toy_stage import ToyStage

T = 1_000_000


class Together(ToyStage):
    """Counts answers in bursts; one of None can't be counted."""

    together = True
    seen: list[int]

    def touches(self, item: Input, message: Any) -> Touches:
        if isinstance(item, Results):
            return Touches(None, dict.fromkeys(f"c:{r.id.split('/')[0]}" for r in item.results))
        return super().touches(item, message)

    def handle(self, item: Input, message: Any, states: States, now: int) -> Iterator[Outcome]:
        if isinstance(item, Results):
            self.seen.append(len(item.results))
            for result in item.results:
                yield from super().handle(result, None, states, now)
        else:
            yield from super().handle(item, message, states, now)


def decided(stage: ToyStage, *answers: tuple[str, Any]) -> Decision:
    d = Decision(StageParts.of(stage), Memory(), lambda keys: dict.fromkeys(keys), 0, 4, T)
    planned = plan_all(stage, [Result(id, answer) for id, answer in answers], T)
    d.overlay.stored.update(dict.fromkeys(d.keys(planned, False)))
    for p in planned:
        d.handle(p)
    return d


def said(d: Decision) -> list[tuple[str, int]]:
    return [(o.emit.value.key, o.emit.value.n) for o in d.outs]


def together() -> Together:
    stage = Together(log=0)
    stage.seen = []
    return stage


def test_answers_that_come_together_say_what_each_says_alone() -> None:
    stage, answers = together(), [("a/1", 1), ("b/1", 2), ("c/1", 3)]
    burst, single = decided(stage, *answers), decided(ToyStage(log=0), *answers)
    assert stage.seen == [3]
    assert said(burst) == said(single) == [("a", 1), ("b", 2), ("c", 3)]
    assert burst.changes() == single.changes() and burst.handled == single.handled == {"Result": 3}


def test_an_answer_that_can_t_be_handled_is_the_only_dead_letter() -> None:
    stage = together()
    d = decided(stage, ("a/1", 1), ("b/1", None), ("c/1", 3))
    assert said(d) == [("a", 1), ("c", 3)]
    assert [dead.item for dead in d.dead] == [Result("b/1", None)]


def test_two_answers_to_one_state_see_each_other() -> None:
    stage = together()
    d = decided(stage, ("a/1", 1), ("a/2", 10), ("b/1", 2))
    assert said(d) == [("a", 1), ("a", 11), ("b", 2)] and stage.seen == []


def test_each_record_of_a_burst_has_a_trace_of_its_own() -> None:
    d = decided(together(), ("a/1", 1), ("b/1", 2))
    traces = [dict(o.headers)["traceparent"] for o in d.outs]
    assert len(set(traces)) == 2 and all(len(t) == 55 for t in traces)
    assert traces == [dict(o.headers)["traceparent"] for o in decided(together(), ("a/1", 1), ("b/1", 2)).outs]
