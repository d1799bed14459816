"""Time under a test clock: quiet hours, budgets and delays end at the exact instant."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.spine_api import Api
from tests.support.spine_people import CONTENT, introduce, track
from tests.support.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

START = "2027-03-27T20:00:00Z"
"""A Saturday; in the night that follows Europe's clocks go forward."""
DAYS = ["mo", "tu", "we", "th", "fr", "sa", "su"]
NIGHT = {
    "channels": ["sms"],
    "classes": ["marketing"],
    "windows": [{"days": DAYS, "from": "21:00", "to": "08:00"}],
    "timezone": ["member", "phone_region", "workspace"],
}
WEEKLY = {"channels": ["*"], "topics": ["news"], "limit": 1, "per": "P7D", "on_exceed": "defer"}
_MARKETING = {"class": "marketing", "template": "spine", "reentry": "always"}
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "night": {
        **_MARKETING,
        "type": "triggered",
        "topic": "offers",
        "channels": ["sms"],
        "trigger": {"event": "Night Event"},
    },
    "week": {
        **_MARKETING,
        "type": "triggered",
        "topic": "news",
        "channels": ["email"],
        "trigger": {"event": "News Event"},
    },
    "later": {
        **_MARKETING,
        "type": "triggered",
        "topic": "offers",
        "channels": ["email"],
        "trigger": {"event": "Cart Left", "delay": "PT30M", "cancel_on": {"event": "Order Completed"}},
    },
}


@pytest.fixture(scope="module")
def clocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A stack of this module's own, under a test clock that stands at START."""
    made = Stack(tmp_path_factory.mktemp("clock"), test_clock=START)
    api = Api(made)
    api.put("/v1/templates/spine", CONTENT)
    api.put("/v1/policies/quiet_hours/night", NIGHT)
    api.put("/v1/policies/budget/weekly", WEEKLY)
    for name, body in CAMPAIGNS.items():
        api.put(f"/v1/campaigns/{name}", body)
        api.post(f"/v1/campaigns/{name}/start")
    news = {("email", "news"): "granted", ("email", "offers"): "granted", ("sms", "offers"): "granted"}
    early = "2027-03-01T12:00:00Z"
    api.send(
        [
            *introduce("paris", early, news, phone="+33612000001", timezone="Europe/Paris"),
            *introduce("york", early, news, phone="+12125550101", timezone="America/New_York"),
        ]
    )
    api.drain()
    yield api
    api.close()
    made.stop()


def newest(api: Api, member: str, campaign: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/v1/members/{member}/decisions", campaign=campaign)["data"][0]
    return found


def test_time_only_moves_when_told(clocked: Api) -> None:
    """All of it in one go, as the clock only goes forward: what happens at 20:00 on Saturday, overnight, on
    Monday and a week later."""
    api = clocked
    assert api.get("/v1/test-clock") == {"frozen_time": START, "status": "ready"}
    refused = api.call("POST", "/v1/test-clock/advance", {"frozen_time": "2027-03-27T19:59:59Z"})
    assert refused.status_code == 409

    # 21:00 in Paris, on the edge of the night; 16:00 in New York
    now = START
    api.send([track("paris", "Night Event", now, "p1", total=1), track("york", "Night Event", now, "y1", total=2)])
    # two pieces of news in one week
    api.send([track("paris", "News Event", now, "n1", total=1), track("paris", "News Event", now, "n2", total=2)])
    # a cart that is paid for in time, and one that is not
    api.send([track("paris", "Cart Left", now, "c1", total=1), track("york", "Cart Left", now, "c2", total=2)])
    api.drain()
    assert [m["text"] for m in api.inbox(channel="sms")] == ["Hi York 2"]
    held = newest(api, "paris", "night")
    # clocks go forward that night: 08:00 in Paris is 06:00Z, not 07:00Z
    assert (held["verdict"], held["reason"], held["until"]) == ("defer", "quiet_hours", "2027-03-28T06:00:00Z")
    assert [(m["campaign"], m["to"]) for m in api.inbox(channel="email")] == [("week", "paris@example.com")]
    over = newest(api, "paris", "week")
    assert (over["verdict"], over["reason"]) == ("defer", "budget_exceeded")
    assert over["until"].startswith("2027-04-03T20:00:00")

    # one ms short of the delay nothing has happened; Paris pays meanwhile
    api.send([track("paris", "Order Completed", now, "o1", total=9)])
    api.advance("2027-03-27T20:29:59.999Z")
    assert not api.inbox(campaign="later")
    api.advance("2027-03-27T20:30:00Z")
    (reminder,) = api.inbox(campaign="later")
    assert (reminder["to"], reminder["received_at"]) == ("york@example.com", "2027-03-27T20:30:00Z")

    # the night ends
    api.advance("2027-03-28T05:59:59.999Z")
    assert not api.inbox(channel="sms", to="+33612000001")
    assert newest(api, "paris", "night")["verdict"] == "defer"
    api.advance("2027-03-28T06:00:00Z")
    (woken,) = api.inbox(channel="sms", to="+33612000001")
    assert woken["received_at"] == "2027-03-28T06:00:00Z"
    sent = newest(api, "paris", "night")
    assert (sent["verdict"], sent["attempt"]) == ("send", 2)

    # one week is over for the first piece of news, and the second one takes its place
    api.advance("2027-04-03T19:59:59.999Z")
    assert len(api.inbox(campaign="week")) == 1
    api.advance("2027-04-05T00:00:00Z")
    later, first = api.inbox(campaign="week")
    assert first["received_at"].startswith(START[:19])
    assert later["received_at"].startswith("2027-04-03T20:00:00")
    budget = api.get("/v1/members/paris/budget")
    (weekly,) = budget["policies"]
    assert (weekly["used"], weekly["left"]) == (1, 0)
    assert api.get("/v1/inbox/stats")["repeats"] == 0
    assert len(api.inbox()) == 5
