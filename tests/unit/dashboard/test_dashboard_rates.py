"""Rates from samples, lag from two sources, Prometheus text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest

from services.dashboard.exposition import by, parse, total
from services.dashboard.model import Place, Sample
from services.dashboard.rates import Pace, Trend, drain_s
from services.dashboard.stages import LAG, RECORDS, StageWatch


def test_two_samples_make_a_rate_and_one_makes_none():
    pace = Pace()
    assert pace.add(100.0, {"a": 50}) is None
    assert pace.add(102.0, {"a": 70}) == 10.0


def test_a_restarted_counter_does_not_count_backwards_and_a_new_one_brings_no_past():
    pace = Pace()
    pace.add(0.0, {"a": 1000})
    assert pace.add(1.0, {"a": 5}) == 0.0
    assert pace.add(2.0, {"a": 25, "b": 9000}) == 10.0
    assert pace.add(4.0, {"a": 25, "b": 9020}) == 10.0


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 500), st.lists(st.floats(0.3, 3.0), min_size=3, max_size=60))
def test_a_steady_counter_has_its_rate_whatever_the_gaps(rate, gaps):
    pace, at, value, got = Pace(), 0.0, 0.0, None
    for gap in gaps:
        at, value = at + gap, value + gap * rate
        got = pace.add(at, {"a": value})
    assert got == pytest.approx(rate, rel=1e-6)


def test_the_window_forgets():
    pace = Pace(window_s=10)
    for second in range(10):
        pace.add(float(second), {"a": second * 100.0})
    for second in range(10, 31):
        got = pace.add(float(second), {"a": 900.0})
    assert got == 0.0


def test_trend_grows_and_shrinks():
    up, down = Trend(), Trend()
    up.add(0, 0)
    down.add(0, 100)
    assert up.add(2, 10) == 5.0
    assert down.add(10, 0) == -10.0


@pytest.mark.parametrize(
    ("lag", "pace", "expected"), [(0, None, 0.0), (0, 5, 0.0), (100, 50, 2.0), (100, 0, None), (1, None, None)]
)
def test_seconds_to_drain(lag, pace, expected):
    assert drain_s(lag, pace) == expected


def test_reads_what_prometheus_writes():
    registry = CollectorRegistry()
    gauge = Gauge("lag", "x", ("stage", "topic"), registry=registry)
    gauge.labels("profiles", 'a"b\\c\nd').set(7)
    gauge.labels("profiles", "plain").set(3.5)
    Counter("seen_total", "x", registry=registry).inc(12)
    Counter("other_total", "x", ("stage",), registry=registry).labels("p").inc()
    found = parse(generate_latest(registry).decode(), ("lag", "seen_total"))
    assert set(found) == {"lag", "seen_total"}
    assert total(found, "seen_total") == 12
    assert by(found, "lag", "topic", stage="profiles") == {'a"b\\c\nd': 7, "plain": 3.5}
    assert total(found, "lag", stage="nobody") == 0
    assert total(None, "lag") == 0


def test_broken_lines_are_left_out():
    assert parse('lag{a="1"} NOTANUMBER\nlag{a="2"}\nlag 4 1700000000\n', ("lag",)) == {"lag": {(): 4.0}}


def _sample(state="ready", url="http://a", lag=None, records=0.0):
    metrics = None
    if lag is not None:
        labels = (("partition", "0"), ("stage", "s"), ("topic", "t"))
        metrics = {LAG: {labels: float(lag)}, RECORDS: {(("stage", "s"),): records}}
    return Sample(Place("s", "0", url), state, metrics=metrics)


def test_records_of_all_instances_add_up():
    watch = StageWatch("s")
    watch.look(0, [_sample(lag=5, records=0), _sample(url="http://b", lag=7, records=0)], {"t": (99, 0)})
    got = watch.look(2, [_sample(lag=5, records=40), _sample(url="http://b", lag=15, records=40)], {"t": (99, 0)})
    assert (got.lag, got.exact, got.pace, got.drain_s) == (20, True, 40.0, 0.5)


def test_a_stopped_process_is_measured_by_the_brokers_offsets():
    watch = StageWatch("s")
    watch.look(0, [_sample(lag=0, records=10)], {"t": (2, 100)})
    watch.look(1, [_sample("silent")], {"t": (50, 100)})
    got = watch.look(2, [_sample("silent")], {"t": (80, 100)})
    assert (got.lag, got.exact, got.pace, got.drain_s, got.topics) == (80, False, 0.0, None, [("t", 80)])
    assert got.growth == 30.0  # from offset to offset: the change of source is no growth
    assert got.grows


def test_without_the_broker_a_process_that_reports_nothing_has_an_unknown_lag():
    sample = _sample("not_ready", lag=3, records=4)
    assert StageWatch("s").look(0, [sample], None).lag is None
    assert StageWatch("s").look(0, [_sample("silent")], None) is None
    assert StageWatch("s").look(0, [_sample()], {}) is None  # it reads no topic
