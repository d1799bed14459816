"""Quiet hours: every minute of days with a change of clocks, against a plain reading of the wall clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.clock import from_iso, iso
from services.rhythm.quiet import Window, Windows, minutes, wall

MINUTE = 60_000
ALL = frozenset(range(7))


def oracle(windows, t: int, zone: str) -> bool:
    """Straight from the words: [from, to) wall time, of the day it begins on."""
    shown = datetime.fromtimestamp(t / 1000, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    for days, start, end in windows:
        for back in (0, 1):
            day = (shown - timedelta(days=back)).date()
            if day.weekday() in days:
                begin = datetime(day.year, day.month, day.day) + timedelta(minutes=start)
                stop = datetime(day.year, day.month, day.day) + timedelta(minutes=end + (1440 if end <= start else 0))
                if begin <= shown < stop:
                    return True
    return False


def free_from(windows: Windows, t: int, zone: str) -> str:
    quiet, change = windows.at(t, zone)
    assert quiet and change is not None
    return iso(change)


CHANGES = [
    # zone, a day on which its clocks change
    ("Europe/Paris", "2027-03-28"),
    ("Europe/Paris", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Santiago", "2026-09-06"),
    ("Asia/Beirut", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"),
    ("Africa/Casablanca", "2026-02-15"),
]


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize(
    ("start", "end"), [("21:00", "08:00"), ("21:00", "02:30"), ("02:10", "02:50"), ("00:00", "01:30")]
)
def test_every_minute_around_a_change_of_clocks(zone: str, day: str, start: str, end: str):
    windows = (Window(ALL, minutes(start), minutes(end)),)
    begin = from_iso(f"{day}T00:00:00Z") - 24 * 60 * MINUTE
    times = range(begin, begin + 72 * 60 * MINUTE, MINUTE)
    seen = [oracle(windows, t, zone) for t in times]
    ours = Windows(windows)
    for i, t in enumerate(times):
        quiet, change = ours.at(t, zone)
        assert quiet == seen[i], (iso(t), zone)
        following = next((times[j] for j in range(i + 1, len(seen)) if seen[j] != quiet), None)
        if following is not None:
            assert change == following, (iso(t), iso(change or 0), iso(following))


@settings(max_examples=80, deadline=None)
@given(
    zone=st.sampled_from(sorted({z for z, _ in CHANGES} | {"Asia/Kathmandu", "Asia/Tokyo", "UTC"})),
    day=st.sampled_from([d for _, d in CHANGES]),
    offset=st.integers(-36 * 60, 36 * 60),
    windows=st.lists(
        st.tuples(st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440)),
        min_size=1,
        max_size=3,
    ),
)
def test_next_change_is_the_first_minute_that_differs(zone, day, offset, windows):
    windows = tuple(Window(*w) for w in windows)
    t = from_iso(f"{day}T00:00:00Z") + offset * MINUTE
    quiet, change = Windows(windows).at(t, zone)
    assert quiet == oracle(windows, t, zone)
    limit = 8 * 24 * 60
    if change is None:
        assert all(oracle(windows, t + i * MINUTE, zone) == quiet for i in range(0, limit, 7))
        return
    assert oracle(windows, change, zone) != quiet
    assert oracle(windows, change - 1, zone) == quiet
    steps = min((change - t) // MINUTE, 2000)
    assert all(oracle(windows, t + i * MINUTE, zone) == quiet for i in range(steps))


def test_a_window_belongs_to_the_day_it_begins_on():
    friday_night = Windows((Window(frozenset({4}), minutes("21:00"), minutes("08:00")),))
    assert friday_night.at(from_iso("2026-11-20T22:00:00Z"), "UTC")[0]
    assert friday_night.at(from_iso("2026-11-21T07:59:59.999Z"), "UTC")[0]
    assert not friday_night.at(from_iso("2026-11-21T08:00:00Z"), "UTC")[0]
    assert not friday_night.at(from_iso("2026-11-21T22:00:00Z"), "UTC")[0]
    assert not friday_night.at(from_iso("2026-11-20T07:00:00Z"), "UTC")[0]


def test_an_end_the_clocks_jump_over_is_the_jump():
    # Paris, 2027-03-28: 02:00 becomes 03:00
    w = Windows((Window(ALL, minutes("21:00"), minutes("02:30")),))
    assert free_from(w, from_iso("2027-03-28T00:30:00Z"), "Europe/Paris") == "2027-03-28T01:00:00Z"


def test_a_wall_time_that_comes_twice_is_judged_the_same_twice():
    # Paris, 2026-10-25: 03:00 becomes 02:00, so 02:30 comes at 00:30Z and at 01:30Z
    w = Windows((Window(ALL, minutes("21:00"), minutes("02:30")),))
    assert free_from(w, from_iso("2026-10-24T23:00:00Z"), "Europe/Paris") == "2026-10-25T00:30:00Z"
    assert w.at(from_iso("2026-10-25T01:10:00Z"), "Europe/Paris") == (True, from_iso("2026-10-25T01:30:00Z"))
    assert wall(from_iso("2026-10-25T01:10:00Z"), "Europe/Paris").hour == 2


def test_a_window_over_all_days_never_ends_and_no_window_never_begins():
    assert Windows((Window(ALL, 0, 1440),)).at(0, "Europe/Paris") == (True, None)
    assert Windows((Window(ALL, 600, 600),)).at(0, "Europe/Paris") == (True, None)
    assert Windows(()).at(0, "UTC") == (False, None)


@pytest.mark.parametrize("text", ["7:00", "25:00", "24:01", "12:60", "12.00", "", "1200", "ab:cd", "١٢:٠٠", "-1:00"])
def test_times_of_day_that_are_none(text: str):
    with pytest.raises(ValueError, match="HH:MM"):
        minutes(text)
