"""Runs, conversations, dead letters, addresses and words as people see them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.clock import iso
from services.dashboard import addresses, runs, talks, words
from services.dashboard.dead import Grave, by_topic
from services.dashboard.fragments import curve
from services.dashboard.model import Place

NOW = 1_800_000_000_000


def _run(id="r1", status="running", started=NOW, reasons=None, **counts):
    every = dict.fromkeys(words.COUNTS, 0) | counts
    return {"run_id": id, "campaign": "spring", "status": status, "started_at": iso(started), "audience": 1,
            "touches": sum(every.values()), "counts": every, "reasons": reasons or {}}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({name: st.integers(0, 100_000) for name in words.COUNTS}))
def test_the_bar_holds_exactly_the_seven_counts(counts):
    row = runs.row(_run(**counts))
    assert [p.count for p in row.counts] == [counts[name] for name in words.COUNTS]
    if row.touches:
        last = row.counts[-1]
        assert last.x + last.width == pytest.approx(100, abs=0.01)
        still_open = counts["pending"] + counts["deferred"] + counts["queued"]
        assert (row.done == 100) == (still_open == 0)


def test_reasons_are_in_plain_words_most_first():
    row = runs.row(_run(skipped=75, reasons={"skipped": {"expired": 5, "consent_missing": 70}, "failed": {}}))
    assert row.reasons == [("Skipped", [("no consent", 70), ("too late", 5)])]


def test_running_ones_stay_however_many_have_finished_since():
    known = {"old": _run("old", "running", NOW - 9_000_000)}
    newest = [_run(f"f{i}", "finished", NOW - i) for i in range(20)]
    shown = runs.shown(runs.merged(known, newest).values())
    assert [r["run_id"] for r in shown] == ["old", "f0", "f1", "f2", "f3", "f4"]


def test_unknown_outcomes_over_all_runs():
    found = [_run(unknown=3, reasons={"unknown": {"timeout": 2, "worker_lost": 1}}), _run("r2", unknown=1)]
    assert runs.unknown(found) == (4, {"no answer in time": 2, "worker died during the call": 1})


def _talk(id, *lines):
    messages = [{"direction": d, "text": d, "at": iso(NOW - s * 1000)} for d, s in lines]
    return {"id": id, "channel": "sms", "member_id": "5f2a8c1e-1", "opened_at": iso(NOW), "messages": messages}


def test_waiting_counts_from_the_first_unanswered_message():
    found = talks.ordered(
        [
            _talk("done", ("in", 500), ("out", 400)),
            _talk("b", ("in", 10)),
            _talk("a", ("out", 90), ("in", 60), ("in", 5)),
        ],
        {},
        NOW,
    )
    assert [(t.id, t.waiting_s) for t in found] == [("a", 60.0), ("b", 10.0), ("done", None)]
    assert found[0].who == "Member 5f2a8c1e"


def test_a_member_is_called_by_name_else_by_user_id():
    assert talks.name_of({"traits": {"firstName": "Ann", "lastName": "Lee"}, "user_id": "u1"}) == "Ann Lee"
    assert talks.name_of({"traits": {}, "user_id": "u1"}) == "u1"
    assert talks.name_of({"traits": None, "user_id": None}) == ""


def test_dead_letters_by_topic():
    graves = {
        ("rondo.events.v1.dlq", 0): Grave(0, 9, Counter(not_json=2)),
        ("rondo.events.v1.dlq", 3): Grave(4, 6, Counter(not_json=1, late=1)),
        ("rondo.sends.sms.bulk.v1.dlq", 1): Grave(0, 5_000, None),
        ("rondo.links.v1.dlq", 1): Grave(0, 2, Counter()),
    }
    found = [(d.topic, d.count, d.exact, d.reasons) for d in by_topic(graves)]
    assert found == [
        ("rondo.sends.sms.bulk.v1", 5_000, False, {}),
        ("rondo.events.v1", 4, True, {"not_json": 3, "late": 1}),
    ]


def test_addresses_of_every_instance_from_the_state_document():
    state = {
        "services": {"profiles": {"instances": [{"slot": 0, "metrics": "http://h:1/metrics"},
                                                {"slot": 1, "metrics": "http://h:2/metrics", "note": "restarting"}]}},
        "capture": {"smtp": "h:25", "instances": [{"pid": 1, "metrics": "http://h:3/metrics"}]},
    }  # fmt: skip
    assert addresses.from_state(state) == [
        Place("profiles", "0", "http://h:1"),
        Place("profiles", "1", "http://h:2", "restarting"),
        Place("capture", "0", "http://h:3"),
    ]


def test_addresses_from_the_setting():
    found = addresses.from_setting("profiles=http://h:1, rhythm=http://h:2/,", "http://h:3")
    assert [(p.process, p.url) for p in found] == [
        ("profiles", "http://h:1"), ("rhythm", "http://h:2"), ("capture", "http://h:3"),
    ]  # fmt: skip
    assert addresses.from_setting("") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 s"), (0.2, "under 1 s"), (14, "14 s"), (180, "3 min"), (7_500, "2 h 5 min"), (7_200, "2 h"),
     (400_000, "4 days")],
)  # fmt: skip
def test_spans(seconds, text):
    assert words.span(seconds) == text


def test_numbers_and_times():
    assert [words.number(n) for n in (0, 5.12, 1234.6, None)] == ["0", "5.1", "1,235", "–"]
    assert words.day_and_time("2026-12-01T09:00:00.5+01:00") == "1 Dec 2026, 08:00:00 UTC"
    assert words.day_and_time("soon") == "soon"
    assert words.ago(iso(NOW - 90_000), NOW) == "90 s"
    assert words.reason("some_new_reason") == "some new reason"


def test_a_curve_ends_at_the_right_and_stays_inside():
    points = [tuple(map(float, p.split(","))) for p in curve([0, 5, 10, 2]).split()]
    assert points[0][0] == 0 and points[-1][0] == 100
    assert all(0 <= y <= 24 for _, y in points)
    assert curve([1]) == ""
