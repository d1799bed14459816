"""Random lives of members, with what must hold of every one of them."""

import random
from collections import defaultdict

import pytest

from rondo_common.clock import from_iso, iso
from services.rhythm.quiet import Window, Windows
from tests.support.rhythm_samples import DAY, HOUR, Gate, budget, contact, night, touch

START = from_iso("2026-12-01T12:00:00Z")
LIMIT, PER, WEIGHTS = 3, 2 * DAY, {"email": 1, "sms": 2}
QUIET = Windows((Window(frozenset(range(7)), 21 * 60, 8 * 60),))


class Life:
    """Drives a gate at random and keeps a plain account beside it."""

    def __init__(self, seed: int, merges: bool):
        self.random = random.Random(seed)
        self.merges = merges
        self.gate = Gate(START, night(), budget("b", LIMIT, "P2D", weights=WEIGHTS))
        self.gate.contact(contact("m2"))
        self.merged = self.open = False
        self.count = self.sequence = 0
        self.decisions = defaultdict(list)
        self.on_their_way: dict[str, tuple[int, str]] = {}
        self.kept: dict[str, tuple[int, str]] = {}
        """Account of what counts: time and channel by touch."""
        self.classes: dict[str, str] = {}
        self.returned: dict[str, int] = defaultdict(int)
        self.paused: set[str] = set()

    def step(self) -> None:
        acts = [
            self.arrive,
            self.arrive,
            self.arrive,
            self.wait,
            self.wait,
            self.hear,
            self.hear,
            self.command,
            self.talk,
        ]
        if self.merges:
            acts += [self.merge, self.gate.forward_moves]
        self.random.choice(acts)()
        self.look()

    def arrive(self) -> None:
        self.count += 1
        id = f"t{self.count}"
        transactional = self.random.random() < 0.2
        self.classes[id] = "transactional" if transactional else "marketing"
        lane = "transactional" if transactional else self.random.choice(["triggered", "bulk"])
        self.gate.touch(
            touch(
                id,
                self.random.choice(["m1", "m2"]) if self.merges else "m1",
                campaign=self.random.choice(["spring", "other"]),
                class_=self.classes[id],
                lane=lane,
                channels=self.random.choice([["email", "sms"], ["sms"], ["email"]]),
                decide_at=iso(self.gate.now + self.random.choice([0, 0, HOUR, 9 * HOUR])),
                not_after=self.random.choice([None, None, iso(self.gate.now + 3 * DAY)]),
                priority=self.random.choice([10, 50, 90]),
            )
        )

    def wait(self) -> None:
        # an hour at a time, so that what is decided in between is looked at with its own account
        for _ in range(self.random.choice([1, 1, 5, 20])):
            self.gate.driver.advance(self.gate.now + HOUR)
            self.look()

    def hear(self) -> None:
        if not self.on_their_way:
            return
        id = self.random.choice(sorted(self.on_their_way))
        attempt, member = self.on_their_way.pop(id)
        status = self.random.choice(["accepted", "accepted", "rejected", "unknown", "returned", "cancelled"])
        if status in ("rejected", "cancelled", "returned"):
            self.kept.pop(id)
        if status == "returned":
            self.returned[id] += 1
        elif status == "accepted":
            self.kept[id] = (self.gate.now, self.kept[id][1])
        self.gate.delivery(status, id, attempt, member)
        self.gate.delivery(self.random.choice(["delivered", status]), id, attempt, member)

    def command(self) -> None:
        campaign = self.random.choice(["spring", "other"])
        if campaign in self.paused:
            self.paused.discard(campaign)
            self.gate.command("campaign.resume", campaign=campaign)
        elif self.random.random() < 0.2:
            self.gate.command("campaign.cancel", campaign=campaign)
            self.look()
            self.gate.command("run.start", campaign=campaign, run_id="r", version=1)
        else:
            self.paused.add(campaign)
            self.gate.command("campaign.pause", campaign=campaign)

    def talk(self) -> None:
        self.sequence += 1
        self.open = not self.open
        self.gate.community("opened" if self.open else "closed", self.sequence)

    def merge(self) -> None:
        if not self.merged:
            self.merged = True
            self.gate.contact(contact("m2", merged_into="m1"))

    def look(self) -> None:
        """Book what was decided, and check it."""
        sends = {(s.touch_id, s.attempt): s for s in self.gate.sends()}
        for d in self.gate.decisions():
            seen = self.decisions[d.touch_id]
            assert d.attempt == len(seen) + 1, "attempts count up without gaps"
            assert not seen or seen[-1].verdict != "skip", "a skip is final"
            assert sum(x.verdict == "send" for x in seen) <= self.returned[d.touch_id], "again only when it came back"
            seen.append(d)
            assert ((d.touch_id, d.attempt) in sends) == (d.verdict == "send")
            if d.verdict == "send":
                self.book(d)

    def book(self, d) -> None:
        at = from_iso(d.decided_at)
        if self.classes[d.touch_id] == "marketing":
            assert not QUIET.at(at, "UTC")[0]
            assert d.campaign not in self.paused
            if not self.merges:
                assert not self.open
                used = sum(WEIGHTS[c] for t, c in self.kept.values() if at - PER < t <= at)
                assert used + WEIGHTS[d.channel] <= LIMIT, (d.touch_id, self.kept)
        self.kept[d.touch_id] = (at, d.channel)
        self.on_their_way[d.touch_id] = (d.attempt, d.member_id)

    def end(self) -> None:
        """Let go of all that holds; everything has to come to its end."""
        if self.open:
            self.talk()
        for campaign in sorted(self.paused):
            self.gate.command("campaign.resume", campaign=campaign)
        self.paused.clear()
        while self.gate.forward_moves():
            pass
        self.look()
        for _ in range(70 * 24):
            self.gate.driver.advance(self.gate.now + HOUR)
            self.look()
        assert set(self.decisions) == set(self.classes), "no touch is lost"
        for id, seen in self.decisions.items():
            assert seen[-1].verdict in ("send", "skip"), id
        assert self.gate.marks() == []
        assert self.gate.driver.timers() == {}


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_random_life(seed: int, merges: bool):
    life = Life(seed, merges)
    for _ in range(45):
        life.step()
    life.end()
    assert not life.gate.driver.dead
