"""Each service is a process of its own that survives each other one being stopped.

Each service is stopped in turn while events come in: ingestion keeps answering 2xx, the others stay
healthy or say what they miss. After all are back, the members who came in during a stop end exactly
like the members of an undisturbed run of the same events before.
"""

import base64
import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from rondo_cli.local import topology
from tests.support.slowness import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAMES = [p.name for p in topology.SERVICES]
MEMBERS_A_STOP = 3
TEMPLATE = {
    "default_locale": "en",
    "email": {
        "from": "Shop <hi@example.com>",
        "subject": "Hi {{ member.firstName }}",
        "mjml": None,
        "html": "<p>Your cart of {{ event.total }} waits.</p>",
        "text": "Your cart of {{ event.total }} waits.",
    },
}
RULE = {"event": {"name": "Order Completed", "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}}
CAMPAIGN = {
    "type": "triggered",
    "class": "marketing",
    "topic": "offers",
    "template": "cart",
    "channels": ["email"],
    "trigger": {"event": "Cart Abandoned"},
    "reentry": "always",
}


def call(url, method="GET", body=None, authorization="", timeout=10):
    """Status and JSON; status 0 when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text
    except urllib.error.HTTPError as e:
        text = e.read()
        return e.code, json.loads(text) if text.startswith(b"{") else text
    except (urllib.error.URLError, OSError):
        return 0, None


class Api:
    def __init__(self, stack):
        self.stack = stack
        state = stack.state
        self.gateway = state["services"]["gateway"]["http"]
        self.ingestion = state["services"]["ingestion"]["http"]
        self.bearer = f"Bearer {state['keys']['admin']}"
        self.basic = "Basic " + base64.b64encode(f"{state['keys']['write']}:".encode()).decode()

    def ask(self, method, path, body=None):
        status, answer = call(self.gateway + path, method, body, self.bearer)
        assert 200 <= status < 300, (method, path, status, answer)
        return answer

    def batch(self, events):
        return call(f"{self.ingestion}/v1/batch", "POST", {"batch": events}, self.basic)[0]


def events_of(user):
    """What one member does: signs up, consents, buys (the first of each group thrice), leaves a cart."""
    number = int(user.rpartition("-")[2])
    at = datetime.now(UTC) - timedelta(hours=1)

    def event(kind, minutes, **body):
        when = (at + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
        return {"type": kind, "messageId": f"{user}-{minutes}", "userId": user, "timestamp": when, **body}

    granted = {"channel": "email", "topic": "offers", "state": "granted", "text_version": "1", "source": "form"}
    yield event("identify", 0, traits={"email": f"{user}@example.com", "firstName": f"N{number}", "plan": "gold"})
    yield event("track", 1, event="Consent Changed", properties=granted)
    for i in range(3 if number == 0 else 1):
        yield event("track", 2 + i, event="Order Completed", properties={"order_id": f"{user}{i}", "total": 10 + i})
    yield event("track", 10, event="Cart Abandoned", properties={"total": 20 + number})


def end_state(api, user):
    """What became of one member, without what must differ (ids, names, times)."""
    member = api.ask("GET", f"/v1/members/{user}")
    segments = api.ask("GET", f"/v1/members/{user}/segments")
    inbox = api.ask("GET", f"/v1/inbox/messages?to={user}%40example.com")
    traits = {k: v for k, v in member["traits"].items() if k != "email"}
    return {
        "traits": traits,
        "segments": sorted(s["segment"] if isinstance(s, dict) else s for s in segments["data"]),
        "mails": sorted((m["subject"], m["text"].split("waits")[0]) for m in inbox["data"]),
    }


def health(api, stopped):
    """Every other service is ready, or says in words what it misses."""
    for name, service in api.stack.state["services"].items():
        if name == stopped:
            continue
        assert call(service["http"] + "/healthz", timeout=5)[0] == 200, f"{name} does not answer without {stopped}"
        status, body = call(service["http"] + "/readyz", timeout=5)
        assert status in (200, 503), f"{name} is gone while {stopped} is stopped"
        assert status == 200 or (isinstance(body, dict) and body["detail"]), f"{name} does not say what it misses"


def test_each_service_may_be_stopped(fresh_stack):
    stack = fresh_stack()
    api = Api(stack)
    api.ask("PUT", "/v1/templates/cart", TEMPLATE)
    api.ask("PUT", "/v1/segments/loyal", {"name": "Loyal", "rule": RULE})
    api.ask("PUT", "/v1/campaigns/cart", CAMPAIGN)
    run = api.ask("POST", "/v1/campaigns/cart/start", {})["run_id"]
    stack.drain()

    undisturbed = [f"calm-{i}" for i in range(MEMBERS_A_STOP)]
    for user in undisturbed:
        assert api.batch(list(events_of(user))) == 200
    stack.drain(120)

    disturbed = {}
    for name in NAMES:
        users = disturbed[name] = [f"{name}-{i}" for i in range(MEMBERS_A_STOP)]
        assert stack.rondo("stop", name).returncode == 0
        waiting = []
        for user in users:
            status = api.batch(list(events_of(user)))
            if name == "ingestion":
                assert status == 0
                waiting.append(user)  # a client keeps what was not accepted
            else:
                assert status == 200, f"ingestion says {status} while {name} is stopped"
        health(api, name)
        started = stack.rondo("start", name)
        assert started.returncode == 0, started.stderr
        for user in waiting:
            assert api.batch(list(events_of(user))) == 200
    stack.wait_ready()
    stack.drain(180)

    wanted = [end_state(api, user) for user in undisturbed]
    assert wanted[0]["segments"] == ["loyal"]
    assert [w["mails"] for w in wanted] == [[(f"Hi N{i}", f"Your cart of {20 + i} ")] for i in range(MEMBERS_A_STOP)]
    for name, users in disturbed.items():
        assert [end_state(api, user) for user in users] == wanted, f"members who came in while {name} was stopped"

    total = MEMBERS_A_STOP * (len(NAMES) + 1)
    deadline = time.monotonic() + PATIENT * 30
    while (counts := api.ask("GET", f"/v1/runs/{run}"))["counts"]["sent"] < total and time.monotonic() < deadline:
        time.sleep(0.2)
    assert counts["counts"] == {**dict.fromkeys(counts["counts"], 0), "sent": total}
    stats = api.ask("GET", "/v1/inbox/stats")
    assert (stats["total"], stats["distinct_touches"], stats["repeats"]) == (total, total, 0)
