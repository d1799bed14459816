"""The stage: contacts that come, change, are erased, and members who turn out to be one."""

import pytest

from rondo_common import ids, topics
from rondo_common.clock import from_iso, iso
from rondo_common.records import Suppression
from services.rhythm.agenda import GRACE_MS
from tests.support.rhythm_samples import DAY, Gate, budget, contact, night, touch

NOON = from_iso("2026-12-01T12:00:00Z")
NIGHT = from_iso("2026-12-01T23:10:00Z")


class TestContacts:
    def test_a_touch_ahead_of_its_contact_waits_a_moment(self):
        gate = Gate(NOON, known=False)
        gate.touch(touch())
        assert gate.decisions() == []
        gate.contact(contact())
        assert gate.verdicts() == [("t1", "send", None)]
        assert gate.driver.timers() == {}

    def test_and_is_decided_without_one_after_that(self):
        gate = Gate(NOON, known=False)
        gate.touch(touch(class_="transactional", lane="transactional"))
        gate.driver.advance(NOON + GRACE_MS - 1)
        assert gate.decisions() == []
        gate.driver.advance(NOON + GRACE_MS)
        assert gate.verdicts() == [("t1", "skip", "no_address")]

    def test_erased(self):
        gate = Gate(NIGHT, night())
        gate.touch(touch("a"))
        gate.driver.take()
        gate.contact(contact(erased=True))
        assert gate.verdicts() == [("a", "skip", "erased")]
        gate.touch(touch("b"))
        assert gate.verdicts() == [("b", "skip", "erased")]
        contact_left = gate.member().contact
        assert contact_left.phone is None
        assert contact_left.reachable == ()

    def test_a_tombstone_is_an_erasure(self):
        gate = Gate(NOON)
        gate.driver.feed(topics.CONTACTS, "demo:m1", None)
        gate.touch(touch())
        assert gate.verdicts() == [("t1", "skip", "erased")]

    def test_a_suppression_holds_for_its_own_address_only(self):
        secret = ids.workspace_secret("secret", "demo")
        of_ann = ids.identifier_id(secret, "email", "ann@example.com")
        gate = Gate(NOON)
        gate.contact(contact(suppressions=[Suppression("email", "bounce", iso(NOON), of_ann)]))
        gate.touch(touch("a", channels=["email"]))
        gate.contact(contact(email="new@example.com", suppressions=[Suppression("email", "bounce", iso(NOON), of_ann)]))
        gate.touch(touch("b", channels=["email"]))
        assert gate.verdicts() == [("a", "skip", "suppressed_bounce"), ("b", "send", None)]


class TestMerges:
    def merge(self, gate: Gate, loser: str, winner: str) -> None:
        gate.contact(contact(loser, merged_into=winner))

    def test_the_agenda_and_the_ledger_follow(self):
        gate = Gate(NOON, budget(limit=1, per="P1D"))
        gate.contact(contact("m2"))
        gate.touch(touch("a", member="m2"))
        gate.touch(touch("b", member="m2", campaign="other"))
        assert gate.verdicts() == [("a", "send", None), ("b", "defer", "budget_exceeded")]
        self.merge(gate, "m2", "m1")
        assert gate.forward_moves() == 1
        assert gate.member("m2").agenda == ()
        assert gate.marks() == ["w:demo:other:m1"]
        gate.touch(touch("c"))
        assert gate.verdicts() == [("c", "defer", "budget_exceeded")]
        gate.driver.advance(NOON + DAY)
        assert gate.verdicts() == [("b", "send", None), ("c", "defer", "budget_exceeded")]
        assert [s.member_id for s in gate.sends()][-1] == "m1"

    def test_a_later_touch_of_the_loser_goes_to_the_winner(self):
        gate = Gate(NOON)
        self.merge(gate, "m2", "m1")
        gate.touch(touch("a", member="m2"))
        assert gate.decisions() == []
        gate.forward_moves()
        (d,) = gate.decisions()
        assert (d.touch_id, d.verdict, d.member_id) == ("a", "send", "m1")

    @pytest.mark.parametrize("first", ["winner", "loser"])
    def test_the_second_touch_of_a_run_to_one_winner_is_merged(self, first):
        gate = Gate(NOON)
        mine = touch("mine", occurrence="1")
        theirs = touch("theirs", member="m2", occurrence="1")
        self.merge(gate, "m2", "m1")
        for t in (mine, theirs) if first == "winner" else (theirs, mine):
            gate.touch(t)
            gate.forward_moves()
        assert [v[1:] for v in gate.verdicts()] == [("send", None), ("skip", "merged")]
        assert len(gate.sends()) == 1

    def test_also_when_the_first_is_final_at_the_loser_before_they_merge(self):
        gate = Gate(NIGHT)
        gate.contact(contact("m2"))
        gate.touch(touch("theirs", member="m2", occurrence="1"))
        gate.delivery("accepted", "theirs", id="m2")
        gate.command("definition.activated", definition=night())
        gate.touch(touch("mine", occurrence="1"))
        assert gate.verdicts() == [("theirs", "send", None), ("mine", "defer", "quiet_hours")]
        self.merge(gate, "m2", "m1")
        gate.forward_moves()
        assert gate.verdicts() == [("mine", "skip", "merged")]

    def test_a_delivery_for_the_loser_finds_the_slot(self):
        gate = Gate(NOON, budget(limit=1))
        gate.contact(contact("m2"))
        gate.touch(touch("a", member="m2"))
        self.merge(gate, "m2", "m1")
        gate.forward_moves()
        gate.delivery("returned", "a", id="m2")
        gate.forward_moves()
        assert [(d.attempt, d.verdict) for d in gate.decisions()] == [(1, "send"), (2, "send")]
        gate.delivery("rejected", "a", attempt=2)
        assert gate.member().ledger == ()

    def test_a_repeated_move_changes_nothing(self):
        gate = Gate(NOON)
        self.merge(gate, "m2", "m1")
        gate.touch(touch("a", member="m2"))
        moves = gate.driver.take(topics.MOVES)
        gate.driver.feed_emitted(moves)
        gate.driver.feed_emitted(moves)
        assert gate.verdicts() == [("a", "send", None)]
        assert gate.driver.drops["moved_before"] == 1

    def test_along_a_chain_of_merges(self):
        gate = Gate(NOON)
        gate.contact(contact("m2"))
        gate.community("opened", 1, id="m3")
        self.merge(gate, "m2", "m1")
        self.merge(gate, "m3", "m2")
        gate.touch(touch("a", member="m3"))
        while gate.forward_moves():
            pass
        assert gate.verdicts() == [("a", "defer", "open_dialogue")]
        gate.community("closed", 2, id="m3")
        while gate.forward_moves():
            pass
        assert gate.verdicts() == [("a", "send", None)]
