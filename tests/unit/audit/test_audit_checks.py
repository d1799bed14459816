"""The comparison: a log as it must be is clean; each kind of hole and repeat is named at its place."""

import base64
import json

import pytest

from rondo_cli.audit import checks, facts
from rondo_cli.audit.facts import Place
from rondo_cli.audit.ledger import Ledger
from rondo_common import topics
from tests.support.audit_story import SENDS, TOUCHES, Story

NOW = 1_767_258_000_000
GROUPS = {topics.EVENTS: "rondo.profiles", topics.ROUTED: "rondo.profiles", TOUCHES: "rondo.rhythm", SENDS: "rondo.delivery-email"}  # fmt: skip


def report(story, accepted=(), committed=None, agenda=(), open_sends=(), marks=(), start=0):
    """(findings, what waits) over a story; every group has read everything unless told."""
    committed = {} if committed is None else committed
    with Ledger() as ledger:
        ends = {}
        for topic, key, value, headers in story.encoded():
            offset = ends.get(topic, 0)
            ends[topic] = offset + 1
            if topic == topics.IDENTITIES:
                ledger.extend("mark_seen", [(key, facts.digest("m-silent"), NOW // 1000)])
                continue
            for row in facts.rows(Place(topic, 0, offset, NOW), dict(headers), value):
                ledger.add(row)
        read = {topic: committed.get(topic, ends.get(topic, 0)) for topic in GROUPS}
        ledger.extend("committed", ((group, topic, 0, read[topic]) for topic, group in GROUPS.items()))
        ledger.extend("accepted", ((id,) for id in accepted))
        ledger.extend("agenda", ((id,) for id in agenda))
        ledger.extend("open_send", ((id, "held") for id in open_sends))
        ledger.extend(
            "mark_seen", ((f"d:w:s1:{facts.digest(id)[7] % facts.SLOTS}", facts.digest(id), at) for id, at in marks)
        )
        ledger.seal()
        waiting = {c.name: c.count for c in checks.waiting(ledger)}
        return list(checks.findings(ledger, NOW, start)), waiting


def named(findings):
    return [(f.check, f.id, f.topic, f.offset) for f in findings]


def test_a_log_as_it_must_be_is_clean():
    accepted = [f"m-{n}" for n in range(5)] + ["m-silent"]
    assert report(Story("w"), accepted) == ([], {"events": 0, "touches": 0, "sends": 0})


def test_an_accepted_id_that_is_nowhere():
    story = Story("w")
    story.records.append((topics.REJECTED, "w:x", {"workspace": "w", "message_id": "m-refused"}, {}))
    assert named(report(story, ["m-1", "m-refused", "m-lost"])[0]) == [("accepted_not_logged", "m-lost", "", -1)]


def test_an_event_without_its_member_event():
    story = Story("w")
    story.drop(topics.MEMBER_EVENTS, "m-3")
    assert named(report(story)[0]) == [("logged_not_applied", "m-3", topics.EVENTS, 3)]


def test_an_identify_without_its_mark():
    story = Story("w")
    del story.records[[t for t, _, _, _ in story.records].index(topics.IDENTITIES)]
    assert named(report(story)[0]) == [("logged_not_applied", "m-silent", topics.EVENTS, 5)]


def test_a_repeated_call_is_no_hole_and_applied_once_is_enough():
    story = Story("w")
    story.again(topics.EVENTS, "m-2")
    assert report(story)[0] == []


def test_a_repeat_of_a_call_from_before_the_range_is_no_hole():
    story = Story("w")
    story.drop(topics.MEMBER_EVENTS, "m-3")
    start = NOW - 10_000
    assert report(story, start=start, marks=[("m-3", start // 1000 - 60)])[0] == []
    again = report(story, start=start, marks=[("m-3", start // 1000 + 5)])[0]
    assert [f.check for f in again] == ["logged_not_applied"], "marked in the range: its effect must be there"


def test_two_senders_with_one_message_id_are_two_events():
    story = Story("w")
    story.again(topics.EVENTS, "m-2", sender="s2")
    assert [f.check for f in report(story)[0]] == ["logged_not_applied", "logged_not_applied"]
    story.again(topics.MEMBER_EVENTS, "m-2", id="e-other")
    assert report(story)[0] == []


def test_a_dead_letter_explains_what_is_missing():
    story = Story("w")
    story.dead(topics.EVENTS, "m-3")
    story.drop(topics.MEMBER_EVENTS, "m-3")
    story.dead(TOUCHES, "t-1")
    for topic in (topics.DECISIONS, SENDS, topics.DELIVERIES):
        story.drop(topic, "t-1")
    assert report(story)[0] == []


def test_what_its_consumer_has_not_read_waits():
    story = Story("w")
    story.drop(topics.MEMBER_EVENTS, "m-4")
    for topic in (topics.DECISIONS, SENDS, topics.DELIVERIES):
        story.drop(topic, "t-3")
    story.drop(topics.DELIVERIES, "t-2")
    committed = {topics.EVENTS: 4, TOUCHES: 3, SENDS: 2}
    found, waiting = report(story, committed=committed)
    assert found == []
    assert waiting == {"events": 2, "touches": 1, "sends": 1}


def test_an_event_on_its_way_to_another_partition_waits_there():
    story = Story("w")
    story.drop(topics.MEMBER_EVENTS, "m-1")
    story.records.append(
        (topics.ROUTED, "w:x", {"workspace": "w", "kind": "event", "event": {"message_id": "m-1"}}, {})
    )
    assert report(story, committed={topics.ROUTED: 0})[0] == []
    assert named(report(story)[0]) == [("logged_not_applied", "m-1", topics.EVENTS, 1)]


def test_a_touch_on_the_agenda_and_a_send_that_is_held_wait():
    story = Story("w")
    for topic in (topics.DECISIONS, SENDS, topics.DELIVERIES):
        story.drop(topic, "t-3")
    story.drop(topics.DELIVERIES, "t-2")
    assert [f.check for f in report(story)[0]] == ["touch_not_decided", "send_not_answered"]
    assert report(story, agenda=["t-3"], open_sends=["t-2"])[0] == []


@pytest.mark.parametrize(
    ("topic", "finding"),
    [
        (topics.DECISIONS, {("touch_not_decided", TOUCHES), ("sent_undecided", SENDS)}),
        (SENDS, {("decision_not_sent", topics.DECISIONS)}),
        (topics.DELIVERIES, {("send_not_answered", SENDS)}),
    ],
)
def test_a_hole_on_the_way_of_a_message(topic, finding):
    story = Story("w")
    story.drop(topic, "t-2")
    found = report(story)[0]
    assert {(f.check, f.topic) for f in found} == finding
    assert {(f.id, f.offset) for f in found} == {("t-2", 2)}


@pytest.mark.parametrize(
    ("topic", "id", "changed", "finding"),
    [
        (topics.MEMBER_EVENTS, "m-2", {}, "effect_repeated"),
        (topics.MEMBER_EVENTS, "m-2", {"id": "e-other"}, "applied_twice"),
        (topics.DECISIONS, "t-2", {}, "decision_repeated"),
        (SENDS, "t-2", {}, "send_repeated"),
        (topics.DELIVERIES, "t-2", {"id": "v-other"}, "accepted_twice"),
    ],
)
def test_a_repeat_is_named_where_it_lies(topic, id, changed, finding):
    story = Story("w")
    last = sum(t == topic for t, _, _, _ in story.records)
    story.again(topic, id, **changed)
    (found,) = report(story)[0]
    assert (found.check, found.topic, found.partition, found.offset) == (finding, topic, 0, last)


def test_a_touch_decided_again_after_it_was_returned_is_no_repeat():
    story = Story("w")
    story.again(topics.DELIVERIES, "t-1", status="returned", id="v-back")
    story.records.remove(story.records[story._find(topics.DELIVERIES, "t-1")])
    for topic, changed in ((topics.DECISIONS, {"decision_id": "d-again"}), (SENDS, {}), (topics.DELIVERIES, {"status": "accepted", "id": "v-2nd"})):  # fmt: skip
        story.again(topic, "t-1", attempt=2, **changed)
    assert report(story)[0] == []


def test_a_deferred_or_skipped_touch_needs_no_send():
    for verdict in ("defer", "skip"):
        story = Story("w")
        story.drop(SENDS, "t-0")
        story.drop(topics.DELIVERIES, "t-0")
        _, _, decision, _ = story.records[story._find(topics.DECISIONS, "t-0")]
        decision["verdict"] = verdict
        assert report(story)[0] == []


def test_a_record_that_cannot_be_read_is_named():
    rows = list(facts.rows(Place(topics.EVENTS, 3, 17, NOW), {}, b"{not json"))
    assert [(r.table, r.values[1:4]) for r in rows] == [("unreadable", (topics.EVENTS, 3, 17))]


def test_committed_offsets_beside_the_log():
    committed = {("g", topics.EVENTS, 0): 5, ("g", topics.EVENTS, 1): 12, ("g", topics.EVENTS, 2): 8}
    first = {(topics.EVENTS, 0): 7, (topics.EVENTS, 1): 0, (topics.EVENTS, 2): 8}
    ends = {(topics.EVENTS, 0): 9, (topics.EVENTS, 1): 10, (topics.EVENTS, 2): 8}
    found = list(checks.offset_findings(committed, first, ends))
    assert [(f.check, f.partition, f.offset) for f in found] == [("deleted_unread", 0, 5), ("beyond_the_log", 1, 12)]


def test_marks_are_told_apart_at_whole_hashes_only():
    one, two = facts.digest("a"), facts.digest("b")
    times = (1_700_000_000).to_bytes(4, "big") + (1_700_000_009).to_bytes(4, "big")
    state = json.dumps([base64.b64encode(part).decode() for part in (one + two, times)]).encode()
    assert facts.marked(state, one) == 1_700_000_000
    assert facts.marked(state, two) == 1_700_000_009
    assert facts.marked(state, (one + two)[4:12]) is None
    assert facts.marked(b"null", one) is None
