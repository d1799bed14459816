"""The whole protocol under kills: real handlers, a model of the effector, its marks and the provider.

Between any two of its steps (commit, hand-over, mark, call, answer's mark, answer's commit) the worker may
die, Redis may be emptied, a callback may come, time may pass. What must hold at the end, whatever happened:
  - nothing reached the provider twice, but transactional messages that were called unknown before;
  - every send has an outcome, and it is true: accepted ones are there, refused ones are not;
  - only calls whose bytes may have left are ever called unknown; and when Redis is emptied and the worker
    dies before it has given the marks back, or between its death and the next one's answers, all that were
    open then.
"""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery.model import Answer, Begin, Call, Check, Forget, Lookup, Verdict
from tests.support.delivery_world import World

FAULTS = ("ok", "ok", "ok", "ok", "refused", "later", "not_sent", "taken_lost", "lost")
"""What the provider does with a call: the last two give no answer, once with and once without taking it."""


class Model:
    """Effector, marks and provider of one partition. Only `driver` (the log) survives a kill."""

    def __init__(self, channel: str, seed: int, mark: bool = True):
        self.random = random.Random(seed)
        self.world = World(channel)
        self.mark = mark
        self.taken: Counter[str] = Counter()
        self.hashes: dict[int, dict[str, Answer | str]] = {}
        self.own: tuple[int, dict[str, Answer | str]] = 0, {}
        """What the worker itself knows of the marks of its generation."""
        self.first: int | None = None
        self.may_be_unknown: set[str] = set()
        self.excused: set[str] = set()
        """Transactional touches that were said to be unknown before they were sent again."""
        self.kinds: dict[str, str] = {}
        self._handed = 0
        self._line: list[Call] = []
        self._about: list[Call] = []
        self._answers: list[tuple[str, Answer]] = []

    # the steps

    def new_send(self) -> None:
        touch = f"t{len(self.kinds)}"
        self.kinds[touch] = self.random.choice(("marketing", "marketing", "transactional"))
        self.world.send(touch=touch, class_=self.kinds[touch])

    def hand_over(self) -> None:
        """The loop gives the effector the next task of a committed transaction."""
        performed = self.world.driver.performed
        if self._handed == len(performed):
            return
        perform = performed[self._handed]
        self._handed += 1
        match perform.task:
            case Call():
                self._line.append(perform.task)
            case Begin(gen=gen):
                self.own = gen, {"": "1"}
                self.hashes.setdefault(gen, {})[""] = "1"
                self.first = gen if self.first is None else self.first
            case Forget(call=call, gen=gen):
                self._heal()
                for known in (self.hashes.get(gen, {}), self.own[1] if gen == self.own[0] else {}):
                    known.pop(call, None)
            case Check(call=call, gen=gen):
                self._answers.append((perform.id, self._check(call, gen)))
            case Lookup():
                there = self.taken[perform.id.rpartition(":")[0]] > 0
                self._answers.append((perform.id, Answer(Verdict.ACCEPTED if there else Verdict.NOT_SENT)))

    def _check(self, call: str, gen: int) -> Answer:
        found = self.hashes.setdefault(gen, {})
        if "" not in found and (self.first is None or self.first >= gen):
            return Answer(Verdict.UNKNOWN, reason="worker_lost")
        mark = found.setdefault(call, "r")
        if isinstance(mark, Answer):
            return mark
        return Answer(Verdict.NOT_SENT if mark == "r" else Verdict.UNKNOWN, reason="worker_lost")

    def begin_call(self) -> None:
        if not self._line:
            return
        call = self._line.pop(self.random.randrange(len(self._line)))
        self._heal()
        found = self.hashes[call.gen]
        if call.id not in found:
            if self.mark:
                found[call.id] = self.own[1][call.id] = "a"
            self._about.append(call)

    def _heal(self) -> None:
        """Whatever is told to Redis shows that it was emptied: then the marks are made anew first."""
        gen, known = self.own
        if "" in known and "" not in self.hashes.get(gen, {}):
            self.hashes[gen] = dict(known)
            self.first = gen if self.first is None else self.first

    def finish_call(self) -> None:
        if not self._about:
            return
        call = self._about.pop(self.random.randrange(len(self._about)))
        touch = call.touch_id
        fault = self.random.choice(FAULTS)
        if fault in ("ok", "taken_lost"):
            unknown_before = "unknown" in [d.status for d in self.world.deliveries() if d.touch_id == touch]
            if self.taken[touch] and unknown_before and self.kinds[touch] == "transactional":
                self.excused.add(touch)
            self.taken[touch] += 1
        answer = {
            "ok": Answer(Verdict.ACCEPTED, provider_id=call.id),
            "refused": Answer(Verdict.REJECTED, reason="hard_bounce"),
            "later": Answer(Verdict.RETRY, reason="soft_bounce"),
            "not_sent": Answer(Verdict.NOT_SENT, reason="connection_failed"),
        }.get(fault, Answer(Verdict.UNKNOWN, reason="timeout"))
        if answer.verdict == Verdict.UNKNOWN:
            self.may_be_unknown.add(touch)
        if self.random.random() < 0.3:
            self._die_with({touch})  # right after the call, before its answer was noted anywhere
            return
        self._heal()
        self.hashes[call.gen][call.id] = self.own[1][call.id] = answer
        self._answers.append((call.id, answer))

    def commit_answer(self) -> None:
        if self._answers:
            id, answer = self._answers.pop(self.random.randrange(len(self._answers)))
            self.world.driver.answer(id, answer)

    def kill(self) -> None:
        self._die_with(set())

    def _die_with(self, more: set[str]) -> None:
        """The process is gone; the next one gets the partition."""
        self.may_be_unknown |= more | {c.touch_id for c in self._about}
        if self.first is None or "" not in self.hashes.get(self.own[0], {}):
            # Redis was emptied, or never told of a generation, and nothing noticed before the end
            self.may_be_unknown |= set(self.kinds)
        self.own = 0, {}
        self._line, self._about, self._answers = [], [], []
        self._handed = len(self.world.driver.performed)
        self.world.driver.assigned(0)

    def flush(self) -> None:
        self.hashes, self.first = {}, None
        # what a predecessor left open and nobody has asked about yet, or the answer is not committed
        left = [p.id for p in self.world.driver.performed[self._handed :]] + [id for id, _ in self._answers]
        self.may_be_unknown |= {id.rpartition(":")[0] for id in left if id.endswith("/check")}

    def callback(self) -> None:
        there = [t for t in self.taken if self.taken[t]]
        if there:
            self.world.callback("delivered", self.random.choice(there))

    def wait(self) -> None:
        self.world.advance(self.random.choice((100, 1_000, 5_000, 30_000)))

    # the whole

    def run(self, steps: int, flushes: bool) -> None:
        choices = [self.new_send, self.hand_over, self.hand_over, self.begin_call, self.begin_call]
        choices += [
            self.finish_call,
            self.finish_call,
            self.commit_answer,
            self.commit_answer,
            self.wait,
            self.callback,
        ]
        for _ in range(steps):
            dice = self.random.random()
            if dice < 0.05:
                self.kill()
            elif dice < 0.08 and flushes:
                self.flush()
            else:
                self.random.choice(choices)()
        self.finish()

    def finish(self) -> None:
        """Let everything come to its end, without further kills."""
        for _ in range(400):
            before = self._handed, len(self.world.driver.performed)
            while self._handed < len(self.world.driver.performed) or self._line or self._about or self._answers:
                self.hand_over()
                self.begin_call()
                self.finish_call()
                self.commit_answer()
            self.world.advance(2_000)
            if before == (self._handed, len(self.world.driver.performed)) and self.world.driver.now % 3 == 0:
                self.world.advance(300_000)

    def check(self) -> None:
        outcomes: dict[str, list[str]] = {t: [] for t in self.kinds}
        for d in self.world.deliveries():
            outcomes[d.touch_id].append(d.status)
        for touch, said in outcomes.items():
            times = self.taken[touch]
            assert said, f"{touch} was lost in silence"
            assert times <= 1 or touch in self.excused, f"{touch} was sent {times} times in silence"
            last = said[-1]
            assert last in ("accepted", "rejected", "unknown", "returned"), (touch, said)
            if last == "accepted":
                assert times >= 1, f"{touch}: accepted, but never taken"
            if last in ("rejected", "returned") and touch not in self.excused and "unknown" not in said:
                assert times == 0, f"{touch}: {last}, but taken"
            if "unknown" in said:
                assert touch in self.may_be_unknown, f"{touch} is unknown without a call"
            assert said.count("unknown") <= 1 and len(said) <= 2, (touch, said)


@pytest.mark.parametrize("channel", ["email", "sms"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_kills_at_any_step(channel: str, seed: int) -> None:
    model = Model(channel, seed)
    model.run(120, flushes=False)
    model.check()


@pytest.mark.parametrize("channel", ["email", "sms"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_kills_and_losses_of_redis(channel: str, seed: int) -> None:
    model = Model(channel, seed)
    model.run(120, flushes=True)
    model.check()


def test_the_check_finds_a_protocol_without_marks() -> None:
    """The model is no yes-man: calls that begin unmarked are sent twice, and it says so."""
    with pytest.raises(AssertionError, match="in silence"):
        for seed in range(200):
            model = Model("email", seed, mark=False)
            model.run(120, flushes=False)
            model.check()
