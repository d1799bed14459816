"""Which campaigns and templates are accepted, and at which pointer the others are refused."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rondo_common.clock import from_iso
from rondo_common.problems import Problem
from services.campaigns.bodies import Condition
from services.campaigns.campaign_rules import parse_campaign
from services.campaigns.event_match import OPERATORS, matches, mistakes
from services.campaigns.template_rules import MOST_BYTES, parse_template
from tests.support.campaigns_world import BROADCAST, TRIGGERED

EXAMPLE = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName | default: 'you' }}",
        "mjml": "<mjml><mj-body><mj-text>Hi {{ member.firstName }}</mj-text></mj-body></mjml>",
        "text": None,
    },
    "sms": {"text": "Hi {{ member.firstName }}"},
    "messaging": {"text": "Hi"},
    "locales": {"fr": {"sms": {"text": "Salut"}, "email": {"subject": "Salut"}}},
}


def changed(base: dict, path: str, value) -> dict:
    body = json.loads(json.dumps(base))
    at = body
    *front, last = path.split("/")
    for name in front:
        at = at.setdefault(name, {})
    if value is ...:
        at.pop(last)
    else:
        at[last] = value
    return body


@pytest.mark.parametrize(
    ("base", "path", "value", "status", "pointer"),
    [
        (BROADCAST, "zzz", 1, 422, "/zzz"),
        (BROADCAST, "type", "drip", 422, "/type"),
        (BROADCAST, "type", "journey", 501, "/type"),
        (BROADCAST, "type", "recurring", 501, "/type"),
        (BROADCAST, "schedule/local_time", "2026-12-01T09:00:00", 501, "/schedule/local_time"),
        (BROADCAST, "schedule/timezone", "member", 501, "/schedule/timezone"),
        (BROADCAST, "schedule/at", "tomorrow", 422, "/schedule/at"),
        (BROADCAST, "schedule/at", "2026-12-01T09:00:00", 422, "/schedule/at"),
        (BROADCAST, "channels", ["email", "social"], 501, "/channels/1"),
        (BROADCAST, "channels", ["email", "fax"], 422, "/channels/1"),
        (BROADCAST, "channels", [], 422, "/channels"),
        (BROADCAST, "channels", ["sms", "sms"], 422, "/channels"),
        (BROADCAST, "channel_rule", "any", 422, "/channel_rule"),
        (BROADCAST, "class", "spam", 422, "/class"),
        (BROADCAST, "class", ..., 422, "/class"),
        (BROADCAST, "topic", ..., 422, "/topic"),
        (BROADCAST, "topic", "*", 422, "/topic"),
        (BROADCAST, "template", ..., 422, "/template"),
        (BROADCAST, "audience", ..., 422, "/audience"),
        (BROADCAST, "audience", {}, 422, "/audience"),
        (BROADCAST, "audience", {"segment": "a", "rule": {}}, 422, "/audience"),
        (BROADCAST, "audience/segment", 7, 422, "/audience/segment"),
        (BROADCAST, "priority", -1, 422, "/priority"),
        (BROADCAST, "priority", 1.5, 422, "/priority"),
        (BROADCAST, "value", -0.1, 422, "/value"),
        (BROADCAST, "expires_after", "2 days", 422, "/expires_after"),
        (BROADCAST, "expires_after", "PT0S", 422, "/expires_after"),
        (BROADCAST, "expires_after", "P1M", 422, "/expires_after"),
        (BROADCAST, "goal", {"event": ""}, 422, "/goal/event"),
        (BROADCAST, "goal", {"event": "a", "within": "x"}, 422, "/goal/within"),
        (BROADCAST, "trigger", {"api": True}, 422, "/trigger"),
        (BROADCAST, "reentry", "once", 422, "/reentry"),
        (TRIGGERED, "trigger", ..., 422, "/trigger"),
        (TRIGGERED, "trigger", {}, 422, "/trigger"),
        (TRIGGERED, "trigger", {"event": "a", "api": True}, 422, "/trigger"),
        (TRIGGERED, "trigger", {"api": False}, 422, "/trigger/api"),
        (TRIGGERED, "trigger", {"segment": "a"}, 422, "/trigger/on"),
        (TRIGGERED, "trigger", {"segment": "a", "on": "joined"}, 422, "/trigger/on"),
        (TRIGGERED, "trigger/delay", "soon", 422, "/trigger/delay"),
        (TRIGGERED, "trigger/cancel_on", {"event": "b"}, 422, "/trigger/cancel_on"),
        (
            TRIGGERED,
            "trigger/where",
            [{"property": "a", "operator": "greater", "value": 1}],
            422,
            "/trigger/where/0/operator",
        ),
        (
            TRIGGERED,
            "trigger/where",
            [{"property": "a", "operator": "gt", "value": [1]}],
            422,
            "/trigger/where/0/value",
        ),
        (TRIGGERED, "trigger/where", [{"operator": "gt", "value": 1}], 422, "/trigger/where/0/property"),
        (TRIGGERED, "reentry", "never", 422, "/reentry"),
        (TRIGGERED, "reentry", {"after": "P0D"}, 422, "/reentry/after"),
        (TRIGGERED, "schedule", {"at": "now"}, 422, "/schedule"),
    ],
)
def test_campaigns_are_refused_at_the_mistake(base, path, value, status: int, pointer: str) -> None:
    parse_campaign(json.dumps(base).encode())
    with pytest.raises(Problem) as caught:
        parse_campaign(json.dumps(changed(base, path, value)).encode())
    assert caught.value.status == status
    assert pointer in [e["pointer"] for e in caught.value.errors]


@pytest.mark.parametrize(
    ("raw", "status"), [(b"{", 400), (b"\xff", 400), (b"[]", 422), (b"null", 422), (b'{"a":NaN}', 400)]
)
def test_what_is_no_object(raw: bytes, status: int) -> None:
    for parse in (parse_campaign, parse_template):
        with pytest.raises(Problem) as caught:
            parse(raw)
        assert caught.value.status == status


def test_all_mistakes_are_named_at_once() -> None:
    body = {**BROADCAST, "topic": "", "channels": [], "expires_after": "x"}
    with pytest.raises(Problem) as caught:
        parse_campaign(json.dumps(body).encode())
    assert {e["pointer"] for e in caught.value.errors} == {"/topic", "/channels", "/expires_after"}


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("zzz", 1, "/zzz"),
        ("email/color", "red", "/email/color"),
        ("email/subject", "Hi\r\nBcc: all@example.com", "/email/subject"),
        ("email/subject", "Hi\nthere", "/email/subject"),
        ("email/from", "Shop\0 <hi@example.com>", "/email/from"),
        ("email/from", "Shop", "/email/from"),
        ("email/reply_to", "a@example.com\nX: y", "/email/reply_to"),
        ("email/subject", "", "/email/subject"),
        ("email/subject", "{% if %}", "/email/subject"),
        ("email/html", "<p>two</p>", "/email/html"),
        ("email/mjml", None, "/email"),
        ("email/mjml", "<mjml><mj-body><mj-text>", "/email/mjml"),
        ("email/mjml", "<p>no</p>", "/email/mjml"),
        ("email/mjml", "<mjml><mj-body><mj-include path='http://x/y.mjml'/></mj-body></mjml>", "/email/mjml"),
        ("email/mjml", "<mjml><mj-body><mj-text>{{ a | }}</mj-text></mj-body></mjml>", "/email/mjml"),
        ("sms/text", "{% include 'x' %}", "/sms/text"),
        ("sms/text", "{% render 'x' %}", "/sms/text"),
        ("sms/text", "{{ member.firstName | shout }}", "/sms/text"),
        ("sms/text", "{% for i in a %}", "/sms/text"),
        ("sms/text", "  ", "/sms/text"),
        ("sms/text", "x" * (MOST_BYTES + 1), "/sms/text"),
        ("sms", "hi", "/sms"),
        ("locales/fr/sms/text", "{{", "/locales/fr/sms/text"),
        ("locales/fr/email/subject", "a\nb", "/locales/fr/email/subject"),
        ("locales/not a language", {}, "/locales/not a language"),
        ("default_locale", "", "/default_locale"),
    ],
)
def test_templates_are_refused_at_the_mistake(path: str, value, pointer: str) -> None:
    assert parse_template(json.dumps(EXAMPLE).encode())[0].channels() == {"email", "sms", "messaging"}
    with pytest.raises(Problem) as caught:
        parse_template(json.dumps(changed(EXAMPLE, path, value)).encode())
    assert caught.value.status == 422
    assert pointer in [e["pointer"] for e in caught.value.errors]


def test_a_template_without_any_part() -> None:
    with pytest.raises(Problem):
        parse_template(b'{"default_locale":"en"}')


AT = from_iso("2026-11-20T12:00:00Z")
P = {"n": 20, "f": 20.0, "t": "abc", "b": True, "at": "2026-11-20T11:00:00Z", "bad": "soon", "null": None, "list": [1]}


@pytest.mark.parametrize(
    ("property", "operator", "value", "holds"),
    [
        ("n", "eq", 20.0, True),
        ("n", "eq", "20", False),
        ("n", "ne", "20", False),
        ("n", "ne", 21, True),
        ("b", "eq", True, True),
        ("b", "eq", 1, False),
        ("b", "gt", 0, False),
        ("none", "ne", 1, False),
        ("null", "exists", None, False),
        ("null", "not_exists", None, True),
        ("none", "not_exists", None, True),
        ("t", "exists", None, True),
        ("f", "gte", 20, True),
        ("n", "gt", 20, False),
        ("n", "lt", 21, True),
        ("n", "lte", 19, False),
        ("t", "gt", "abb", True),
        ("t", "gt", 1, False),
        ("t", "in", ["x", "abc"], True),
        ("t", "not_in", ["x"], True),
        ("t", "not_in", [1], False),
        ("none", "not_in", ["x"], False),
        ("t", "contains", "b", True),
        ("list", "contains", "1", False),
        ("t", "starts_with", "ab", True),
        ("at", "before", "2026-11-20T12:30:00+01:00", True),
        ("at", "after", "2026-11-20T12:30:00+01:00", False),
        ("at", "after", {"ago": "PT2H"}, True),
        ("at", "within_last", "PT1H", False),
        ("at", "within_last", "PT1H1S", True),
        ("bad", "before", "2026-11-20T12:30:00Z", False),
        ("n", "before", "2026-11-20T12:30:00Z", False),
    ],
)
def test_where(property: str, operator: str, value, holds: bool) -> None:
    condition = Condition(property, operator, value)
    assert not mistakes([condition], "/where")
    assert matches([condition], msgspec.json.encode(P), AT) is holds


def test_all_conditions_must_hold_and_none_is_always() -> None:
    one, two = Condition("n", "eq", 20), Condition("n", "eq", 21)
    assert not matches([one, two], msgspec.json.encode(P), AT)
    assert matches([], None, AT) and not matches([one], None, AT) and not matches([one], b"[1]", AT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from([*OPERATORS, "near"]), JSON, JSON)
@settings(max_examples=200, deadline=None)
def test_no_accepted_condition_ever_fails(operator: str, value, property) -> None:
    """What validation lets through can be evaluated on any property, and a missing one is false."""
    condition = Condition("x", operator, value)
    if mistakes([condition], ""):
        return
    assert matches([condition], msgspec.json.encode({"x": property}), AT) in (True, False)
    assert matches([condition], b"{}", AT) is (operator == "not_exists")
