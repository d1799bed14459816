"""Merging, times, validation and keywords as pure functions."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common import ids
from rondo_common.clock import from_iso, iso
from services.ingestion.keywords import keyword, own_words
from services.ingestion.merging import merged, wanted
from services.ingestion.model import Arrival, Code, Refused
from services.ingestion.times import EARLIEST, FUTURE_MS, settled
from services.ingestion.validation import encoded, suspect, taken

NOW = from_iso("2026-11-21T09:00:00.123Z")
SECRET = ids.workspace_secret("s", "demo")

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)
objects = st.dictionaries(st.sampled_from(["a", "b", "c"]) | st.text(max_size=2), values, max_size=4)


def arrival(**more):
    return Arrival("demo", SECRET, NOW, iso(NOW), **more)


@given(objects, objects)
@settings(max_examples=150)
def test_merge_every_leaf_of_the_event_wins_and_nothing_of_the_batch_is_lost(under, own):
    before = (json.dumps(under), json.dumps(own))
    both = merged(under, own)
    assert (json.dumps(under), json.dumps(own)) == before

    def check(under, own, both):
        assert set(both) == set(under) | set(own)
        for key, value in both.items():
            if key not in own:
                assert value == under[key]
            elif isinstance(own[key], dict) and isinstance(under.get(key), dict):
                check(under[key], own[key], value)
            else:
                assert value == own[key]

    check(under, own, both)
    assert merged({}, own) == own
    assert merged(under, {}) == under


@pytest.mark.parametrize(
    "integrations,answer",
    [
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"all": False}, False),
        ({"All": False, "Rondo": True}, True),
        ({"All": False, "Rondo": {"option": 1}}, True),
        ({"All": False, "Rondo": None}, False),
        ({"All": True, "Rondo": False}, False),
        ({"Amplitude": False}, True),
    ],
)
def test_integrations(integrations, answer):
    assert wanted(integrations) is answer


instants = st.integers(EARLIEST, NOW + 400 * 86_400_000)


@given(instants, st.none() | instants, st.integers(NOW - 1000, NOW + 1000))
@settings(max_examples=200)
def test_skew_correction(original, sent, received):
    want = original if sent is None else received - (sent - original)
    if want > received + FUTURE_MS:
        assert settled(original, sent, received) == received
    elif want < EARLIEST:
        with pytest.raises(Refused):
            settled(original, sent, received)
    else:
        assert settled(original, sent, received) == want
    assert settled(None, sent, received) == received


@given(st.integers(-30 * 86_400_000, 30 * 86_400_000), st.integers(0, 3_600_000))
@settings(max_examples=100)
def test_a_wrong_device_clock_does_not_matter(offset, waited):
    """The call was made `waited` before it was sent, by a clock that is off by `offset`."""
    made = NOW - waited + offset
    assert settled(made, NOW + offset, NOW) == NOW - waited


def test_the_future_is_clamped_and_the_original_kept():
    call = {"userId": "u", "event": "x", "timestamp": "2027-01-01T00:00:00Z"}
    event = taken(json.dumps(call).encode(), "track", arrival())
    assert event.timestamp == iso(NOW)
    assert event.original_timestamp == "2027-01-01T00:00:00Z"
    soon = iso(NOW + FUTURE_MS)
    assert taken(json.dumps({**call, "timestamp": soon}).encode(), "track", arrival()).timestamp == soon


@pytest.mark.parametrize(
    "text,want",
    [
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00.120Z", "2026-11-20T10:00:00.120Z"),
        ("2026-11-20T10:00:00.12Z", "2026-11-20T10:00:00.120Z"),
        ("2026-11-20T10:00:00.000Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T12:00:00+02:00", "2026-11-20T10:00:00Z"),
        ("2026-W47-5T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00.123456Z", "2026-11-20T10:00:00.123Z"),
        ("1900-01-01T00:00:00Z", "1900-01-01T00:00:00Z"),
        ("1997-01-01 12:00:00Z", "1997-01-01T12:00:00Z"),
    ],
)
def test_times_are_written_one_way(text, want):
    call = {"userId": "u", "event": "x", "timestamp": text}
    assert taken(json.dumps(call).encode(), "track", arrival()).timestamp == want


def check_refused(call, code, pointer, kind=None, **more):
    raw = call if isinstance(call, bytes) else json.dumps(call).encode()
    with pytest.raises(Refused) as caught:
        taken(raw, kind, arrival(suspect=suspect(raw), **more))
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def nested(levels):
    return b'{"type":"track","userId":"u","event":"x","properties":' + b'{"a":' * (levels - 1) + b"1" + b"}" * levels


@pytest.mark.parametrize(
    "change,code,pointer",
    [
        ({"type": None}, Code.REQUIRED, "/type"),
        ({"type": "buy"}, Code.UNKNOWN_TYPE, "/type"),
        ({"type": "batch"}, Code.UNKNOWN_TYPE, "/type"),
        ({"type": ["track"]}, Code.UNKNOWN_TYPE, "/type"),
        ({"userId": None}, Code.REQUIRED, "/userId"),
        ({"userId": "  "}, Code.REQUIRED, "/userId"),
        ({"userId": 1.5}, Code.WRONG_TYPE, "/userId"),
        ({"userId": True}, Code.WRONG_TYPE, "/userId"),
        ({"userId": {"id": 1}}, Code.WRONG_TYPE, "/userId"),
        ({"userId": "u" * 513}, Code.TOO_LONG, "/userId"),
        ({"userId": "u\0"}, Code.NUL, "/userId"),
        ({"messageId": ["m"]}, Code.WRONG_TYPE, "/messageId"),
        ({"event": ""}, Code.REQUIRED, "/event"),
        ({"event": 7}, Code.WRONG_TYPE, "/event"),
        ({"event": "x" * 513}, Code.TOO_LONG, "/event"),
        ({"properties": "x"}, Code.WRONG_TYPE, "/properties"),
        ({"properties": {"a": [{"b/c": "\0"}]}}, Code.NUL, "/properties/a/0/b~1c"),
        ({"properties": {"\0": 1}}, Code.NUL, "/properties"),
        ({"properties": {"n": 2**64}}, Code.NUMBER, "/properties/n"),
        ({"properties": {"n": 10**400}}, Code.NUMBER, "/properties/n"),
        ({"context": []}, Code.WRONG_TYPE, "/context"),
        ({"context": {"historical": 1}}, Code.WRONG_TYPE, "/context/historical"),
        ({"integrations": "none"}, Code.WRONG_TYPE, "/integrations"),
        ({"timestamp": "2026-11-20T10:00:00"}, Code.NAIVE_TIME, "/timestamp"),
        ({"timestamp": "2026-11-20"}, Code.UNREADABLE_TIME, "/timestamp"),
        ({"timestamp": "yesterday"}, Code.UNREADABLE_TIME, "/timestamp"),
        ({"timestamp": 1700000000}, Code.UNREADABLE_TIME, "/timestamp"),
        ({"timestamp": "1899-12-31T23:59:59Z"}, Code.TIME_RANGE, "/timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, Code.TIME_RANGE, "/timestamp"),
        ({"originalTimestamp": "2026-11-20T10:00:00"}, Code.NAIVE_TIME, "/originalTimestamp"),
        ({"sentAt": "soon"}, Code.UNREADABLE_TIME, "/sentAt"),
        ({"properties": {"x": "y" * 33_000}}, Code.TOO_LARGE, ""),
    ],
)
def test_refusals_point_at_the_mistake(change, code, pointer):
    check_refused({"type": "track", "userId": "u", "event": "x", **change}, code, pointer)


def test_other_refusals():
    check_refused({"userId": "u"}, Code.REQUIRED, "/previousId", kind="alias")
    check_refused({"anonymousId": "u", "previousId": "p"}, Code.REQUIRED, "/userId", kind="alias")
    check_refused({"userId": "u"}, Code.REQUIRED, "/groupId", kind="group")
    check_refused({"userId": "u", "traits": [1]}, Code.WRONG_TYPE, "/traits", kind="identify")
    check_refused(b'{"userId":"u","event":"x","properties":{"n":1e999}}', Code.NUMBER, "", kind="track")
    check_refused(b'{"userId":"u","event":"\xff"}', Code.NOT_JSON, "", kind="track")
    check_refused(b'{"userId":"u","event":"\\ud800"}', Code.NOT_JSON, "", kind="track")
    check_refused(b"[1]", Code.NOT_AN_OBJECT, "", kind="track")


def test_nesting():
    assert taken(nested(20), None, arrival()) is not None
    check_refused(nested(21), Code.TOO_DEEP, "")
    check_refused(nested(900), Code.TOO_DEEP, "")
    check_refused(nested(3000), Code.TOO_DEEP, "")
    broad = {"userId": "u", "event": "x", "properties": {"items": [{"n": i} for i in range(100)]}}
    assert taken(json.dumps(broad).encode(), "track", arrival()) is not None


def test_a_repeated_key_counts_the_last_time():
    event = taken(b'{"userId":"a","userId":"b","event":"x","properties":{"n":1,"n":2}}', "track", arrival())
    assert event.user_id == "b"
    assert msgspec.json.decode(encoded(event))["properties"] == {"n": 2}


@given(st.dictionaries(st.sampled_from(["type", "userId", "event", "timestamp", "context", "x"]), values, max_size=6))
@settings(max_examples=300)
def test_whatever_comes_is_taken_or_refused(call):
    raw = json.dumps(call).encode()
    try:
        event = taken(raw, None, arrival(suspect=suspect(raw)))
    except Refused as e:
        assert e.code
    else:
        msgspec.json.decode(encoded(event)) if event else None


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_bytes_never_raise_anything_else(raw):
    with contextlib.suppress(Refused):
        taken(raw, "track", arrival(suspect=suspect(raw)))


@pytest.mark.parametrize(
    "text,want",
    [
        ("STOP", "stop"),
        ("stop", "stop"),
        (" Stop.\n", "stop"),
        ("Arrêt", "stop"),
        ("ARRET", "stop"),
        ("StopAll", "stop"),
        ("quit", "stop"),
        ("end", "stop"),
        ("revoke", "stop"),
        ("optout", "stop"),
        ("cancel", "stop"),
        ("unsubscribe", "stop"),
        ("yes", "start"),
        ("START", "start"),
        ("unstop", "start"),
        ("help", "help"),
        ("info", "help"),
        ("please stop", None),
        ("stop it", None),
        ("no", None),
        ("", None),
        ("stop" * 100, None),
    ],
)
def test_keywords(text, want):
    assert keyword(text) == want


def test_own_words_of_a_mail():
    assert own_words("STOP\n\nOn Mon, 1 Dec 2026 at 09:00, Shop <hi@example.com> wrote:\n> Hi Ann") == "STOP"
    assert own_words("hello\n> quoted") == "hello"
    assert own_words("> only quoted") == "> only quoted"
