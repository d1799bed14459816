"""Logs hold no personal data; metrics are made once."""

import json
import logging

import pytest

from rondo_common import telemetry


@pytest.fixture
def lines(capsys, monkeypatch):
    """Configure logging; what was logged so far, as JSON."""
    import structlog

    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLogger("rondo").level)
    telemetry.configure("toy", "info")

    def read():
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    yield read
    root.handlers, root.level = before[0], before[1]
    logging.getLogger("rondo").setLevel(before[2])
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_lines_say_who_and_in_which_trace(lines):
    trace = telemetry.start_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    telemetry.logger("m").info("begun", run_id="r1")
    [line] = lines()
    assert (line["service"], line["module"], line["event"], line["run_id"]) == ("toy", "m", "begun", "r1")
    assert line["trace_id"] == trace == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_personal_values_are_left_out_wherever_they_stand(lines):
    log = telemetry.logger("m")
    log.info("to ann@example.com", email="ann@example.com", traits={"phone": "+33612345678"}, note="call +33612345678")
    logging.getLogger("some.library").warning("550 <bob.smith+x@mail.example.org> unknown, %s", "+4915112345678")
    try:
        raise ValueError("no such user ann@example.com")
    except ValueError:
        log.exception("failed")
    text = json.dumps(lines())
    for secret in ("ann@", "bob.smith", "33612345678", "4915112345678"):
        assert secret not in text
    assert "ValueError" in text


def test_ids_and_times_are_left_alone():
    text = "member 5f1c0a52-93a4-5d2e-8b0e-1f0a6c9d2e11 at 2026-11-20T10:00:00+0200 offset +12"
    assert telemetry.masked(text) == text


def test_our_own_info_is_shown_and_libraries_speak_from_warning_on(lines):
    logging.getLogger("rondo.streams").info("live")
    logging.getLogger("other").info("noise")
    assert [line["event"] for line in lines()] == ["live"]


def test_a_metric_is_made_once():
    one = telemetry.counter("rondo_test_things_total", "Things", ("kind",))
    assert telemetry.counter("rondo_test_things_total", "Things", ("kind",)) is one
    with pytest.raises(ValueError, match="something else"):
        telemetry.gauge("rondo_test_things_total", "Things", ("kind",))
    one.labels("a").inc(2)
    assert b'rondo_test_things_total{kind="a"} 2.0' in telemetry.exposition()[0]


@pytest.mark.parametrize("wrong", [None, "", "00-xyz", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{'G' * 32}-0-1"])
def test_a_trace_that_can_t_be_read_is_begun_anew(wrong):
    trace = telemetry.start_trace(wrong)
    assert len(trace) == 32
    assert int(trace, 16)
    assert telemetry.traceparent().split("-")[1] == trace


def test_several_observations_at_once_are_as_many_by_themselves():
    together, alone = (telemetry.histogram(f"rondo_test_{n}_seconds", "x", ("a",)).labels("b") for n in ("all", "one"))
    values = [0.0, 0.001, 0.0011, 0.5, 0.5, 100.0]
    telemetry.observe_all(together, values)
    for value in values:
        alone.observe(value)
    assert [b.get() for b in together._buckets] == [b.get() for b in alone._buckets]
    assert together._sum.get() == alone._sum.get()
