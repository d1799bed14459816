"""The API around the main path: triggers in all forms, previews, explanations, keys, repeats, foreigners."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.spine_api import Api, until
from tests.support.spine_people import introduce, track

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CODE = {
    "type": "triggered",
    "class": "transactional",
    "topic": "codes",
    "template": "spine",
    "channels": ["email"],
    "trigger": {"api": True},
}
GUESTS = ("req1", "req2", "req3", "req4")


def ago(days: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="module")
def guests(api: Api) -> tuple[str, ...]:
    """Four members: req1 bought three times, req2 once; plan gold for both; req4 speaks French."""
    events = []
    for user in GUESTS:
        plan = "gold" if user in ("req1", "req2") else "free"
        events += introduce(user, ago(30), locale="fr-FR" if user == "req4" else "en", req_plan=plan)
    events += [track("req1", "Req Order", ago(n), f"req1-o{n}", total=10.5 * n) for n in (1, 2, 3)]
    events += [track("req2", "Req Order", ago(200), "req2-o1", total=100)]
    api.send(events)
    api.put("/v1/campaigns/req-code", CODE)
    api.drain()
    return GUESTS


def texts(api: Api, run_id: str, count: int) -> dict[str, str]:
    """Recipient to text of a run's messages."""
    found = until(lambda: f if len(f := api.inbox(run_id=run_id)) >= count else None, f"{count} messages")
    api.drain()
    assert len(api.inbox(run_id=run_id)) == count
    return {m["to"]: m["text"] for m in found}


def problem(answer: Any, status: int) -> dict[str, Any]:
    """A refusal as WIRE 10 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["type"] and body["title"]
    return body


def test_trigger_by_ids(api: Api, guests: tuple[str, ...]) -> None:
    answer = api.call("POST", "/v1/campaigns/req-code/triggers", {"data": {"code": "X1"}, "ids": ["req1", "req2"]})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["unknown"]) == (2, [])
    found = texts(api, body["run_id"], 2)
    assert all("X1" in t for t in found.values()) and set(found) == {"req1@example.com", "req2@example.com"}
    run = api.finished(body["run_id"])
    assert (run["touches"], run["counts"]["sent"]) == (2, 2)


def test_trigger_with_unknown_ids(api: Api, guests: tuple[str, ...]) -> None:
    body = {"ids": ["req1", "nobody-at-all"], "data": {"code": "X2"}}
    refused = problem(api.call("POST", "/v1/campaigns/req-code/triggers", body), 422)
    assert refused["errors"][0]["pointer"] == "/ids/1"
    taken = api.post("/v1/campaigns/req-code/triggers", {**body, "id_ignore_missing": True})
    assert (taken["accepted"], taken["unknown"]) == (1, ["nobody-at-all"])
    texts(api, taken["run_id"], 1)


def test_trigger_per_user_and_by_email(api: Api, guests: tuple[str, ...]) -> None:
    people = [{"id": "req1", "data": {"code": "A1"}}, {"email": "REQ2@example.com", "data": {"code": "B2"}}]
    taken = api.post("/v1/campaigns/req-code/triggers", {"per_user_data": people, "data": {"code": "none"}})
    found = texts(api, taken["run_id"], 2)
    assert "A1" in found["req1@example.com"] and "B2" in found["req2@example.com"]


def test_trigger_by_a_rule(api: Api, guests: tuple[str, ...]) -> None:
    rule = {"trait": {"field": "req_plan", "operator": "eq", "value": "gold"}}
    taken = api.post("/v1/campaigns/req-code/triggers", {"recipients": rule, "data": {"code": "R1"}})
    assert set(texts(api, taken["run_id"], 2)) == {"req1@example.com", "req2@example.com"}


def test_trigger_as_braze_has_it(api: Api, guests: tuple[str, ...]) -> None:
    person = {"external_user_id": "req3", "trigger_properties": {"code": "BR"}}
    body = {"campaign_id": "req-code", "trigger_properties": {"code": "no"}, "recipients": [person]}
    answer = api.call("POST", "/v1/campaigns/trigger/send", body)
    assert answer.status_code == 201 and answer.json()["message"] == "success"
    assert "BR" in texts(api, answer.json()["dispatch_id"], 1)["req3@example.com"]


def test_a_repeated_request_is_answered_again_and_done_once(api: Api, guests: tuple[str, ...]) -> None:
    body = {"ids": ["req1"], "data": {"code": "IDEM"}}
    path = "/v1/campaigns/req-code/triggers"
    first, second = (api.call("POST", path, body, key="req-idem-1") for _ in range(2))
    assert first.status_code == second.status_code == 202 and first.json() == second.json()
    assert "Idempotent-Replayed" not in first.headers and second.headers["Idempotent-Replayed"] == "true"
    problem(api.call("POST", path, {**body, "data": {"code": "OTHER"}}, key="req-idem-1"), 422)
    texts(api, first.json()["run_id"], 1)


def test_transactional_send(api: Api, guests: tuple[str, ...]) -> None:
    """Needs no consent; the same key sends once."""
    api.send(introduce("req-shy", ago(1), consents={("email", "*"): "denied"}))
    api.drain()
    body = {"template": "spine", "to": {"id": "req-shy"}, "data": {"code": "T9"}}
    answers = [api.call("POST", "/v1/send/email", body, key="req-send-1") for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 202]
    found = until(lambda: api.inbox(to="req-shy@example.com"), "the message")
    api.drain()
    (message,) = api.inbox(to="req-shy@example.com")
    assert message["touch_id"] == answers[0].json()["touch_id"] == found[0]["touch_id"]
    assert "T9" in message["text"] and "List-Unsubscribe" not in message["headers"]
    problem(api.call("POST", "/v1/send/email", {**body, "to": {"id": "nobody-at-all"}}), 404)
    problem(api.call("POST", "/v1/send/email", {**body, "template": "no-such"}), 422)


def test_templates_render_without_sending(api: Api, guests: tuple[str, ...]) -> None:
    shown = api.post("/v1/templates/spine/render", {"member": "req1", "channel": "email", "data": {"code": "Z"}})
    assert shown["subject"] == "Hi Req1" and "Dear Req1, Z" in shown["html"]
    assert "event.total" in shown["missing"]
    french = api.post("/v1/templates/spine/render", {"member": "req4", "channel": "sms"})
    assert french["text"].startswith("Salut Req4")
    problem(api.call("POST", "/v1/templates/spine/render", {"member": "nobody-at-all", "channel": "sms"}), 404)


def test_preview_and_a_live_segment_agree(api: Api, guests: tuple[str, ...]) -> None:
    gold = {"trait": {"field": "req_plan", "operator": "eq", "value": "gold"}}
    often = {"event": {"name": "Req Order", "measure": "count", "operator": "gte", "value": 2, "within": "P90D"}}
    seen = api.post("/v1/segments/preview", {"rule": {"and": [gold, often]}, "samples": 5})
    assert (seen["count"], seen["anonymous"], seen["exact"]) == (1, 0, True)
    assert [s["user_id"] for s in seen["samples"]] == ["req1"]
    assert seen["leaves"] == [{"pointer": "/and/0", "count": 2}, {"pointer": "/and/1", "count": 1}]
    past = api.post("/v1/segments/preview", {"rule": often, "at": ago(2.5)})
    assert past["count"] == 0
    api.put("/v1/segments/req-loyal", {"name": "Loyal", "rule": {"and": [gold, often]}})
    assert api.live("req-loyal", 1)["version"] == 1
    assert [m["user_id"] for m in api.get("/v1/segments/req-loyal/members")["data"]] == ["req1"]
    why = api.get("/v1/members/req2/segments", explain="req-loyal")
    assert why["in"] is False
    assert [leaf["value"] for leaf in why["leaves"]] == [True, False]
    inside = api.get("/v1/members/req1/segments", explain="req-loyal")
    assert inside["in"] is True and inside["valid_until"]
    wrong = {"and": [{"trait": {"field": "plan", "operator": "greater", "value": 1}}]}
    refused = problem(api.call("POST", "/v1/segments/preview", {"rule": wrong}), 422)
    assert refused["errors"][0]["pointer"] == "/rule/and/0/trait/operator"


def test_explain_says_what_was_recorded_or_that_nobody_meant_them(api: Api, guests: tuple[str, ...]) -> None:
    api.put("/v1/segments/req-often", {
        "name": "Often", "rule": {"event": {"name": "Req Order", "measure": "count", "operator": "gte", "value": 3}},
    })  # fmt: skip
    api.live("req-often", 1)
    api.put("/v1/campaigns/req-news", {
        "type": "broadcast", "class": "marketing", "topic": "offers", "template": "spine", "channels": ["messaging"],
        "audience": {"segment": "req-often"}, "schedule": {"at": "now"},
    })  # fmt: skip
    run = api.finished(api.post("/v1/campaigns/req-news/start")["run_id"])
    assert (run["touches"], run["reasons"]["skipped"]) == (1, {"consent_missing": 1})
    api.drain()
    got = api.get("/v1/explain", member="req1", campaign="req-news")
    assert got["status"] == "recorded"
    decision = got["decision"]
    assert (decision["verdict"], decision["reason"], decision["run_id"]) == ("skip", "consent_missing", run["run_id"])
    assert [g["gate"] for g in decision["gates"]][-1] == "consent"
    before = api.get("/v1/explain", member="req1", campaign="req-news", at=ago(1))
    assert before["status"] == "not_targeted"
    never = api.get("/v1/explain", member="req2", campaign="req-news")
    assert never["status"] == "not_targeted"
    (gate,) = never["decision"]["gates"]
    assert (gate["gate"], gate["verdict"], gate["reason"]) == ("audience", "skip", "not_in_audience")
    assert gate["inputs"]["leaves"][0]["value"] is False


@pytest.fixture
def acting(api: Api) -> Iterator[Callable[..., Api]]:
    """The same stack under other keys."""
    with ExitStack() as made:
        yield lambda **keys: made.enter_context(Api(api.stack, **keys))


def test_a_key_may_do_what_its_scopes_say(api: Api, acting: Callable[..., Api]) -> None:
    made = api.post("/v1/keys", {"name": "reader", "scopes": ["segments:read"]})
    mine = acting(admin_key=made["key"])
    until(lambda: mine.call("GET", "/v1/segments").status_code == 200, "the key is known")
    for method, path in (
        ("PUT", "/v1/segments/x"), ("GET", "/v1/campaigns"), ("POST", "/v1/campaigns/req-code/start"),
        ("POST", "/v1/send/email"), ("GET", "/v1/inbox/messages"), ("GET", "/v1/members/req1"),
        ("GET", "/v1/keys"), ("GET", "/v1/lag"), ("GET", "/v1/conversations"), ("PUT", "/v1/policies/budget/x"),
    ):  # fmt: skip
        assert problem(mine.call(method, path, {} if method != "GET" else None), 403)["title"]
    api.ask("DELETE", f"/v1/keys/{made['id']}")
    until(lambda: mine.call("GET", "/v1/segments").status_code == 401, "the key is withdrawn")
    problem(acting(admin_key="rk_wrong").call("GET", "/v1/segments"), 401)


def test_another_workspace_sees_nothing_of_ours(api: Api, guests: tuple[str, ...], acting: Callable[..., Api]) -> None:
    """Every GET address of the API, asked by a foreigner for things that are there: 404, or an empty list."""
    run_id = api.post("/v1/campaigns/req-code/triggers", {"ids": ["req1"], "data": {"code": "W"}})["run_id"]
    (message,) = until(lambda: api.inbox(run_id=run_id), "a message")
    api.put("/v1/segments/req-own", {"name": "Own", "rule": {"reachable": {"channel": "sms"}}})
    api.put("/v1/policies/budget/req-own", {"limit": 1000, "per": "P1D", "topics": ["nothing"]})
    keys = api.post("/v1/workspaces", {"id": "req-other"})["keys"]
    other = acting(write_key=keys["write"], admin_key=keys["admin"])
    until(lambda: other.call("GET", "/v1/segments").status_code == 200, "the workspace's key is known")
    # {id} by what it names; where nobody of ours could stand, something unknown anywhere
    ours = {
        "members": "req1", "segments": "req-own", "templates": "spine", "campaigns": "req-code", "runs": run_id,
        "messages": message["id"], "conversations": "c1", "imports": "im1", "policies": "req-own",
    }  # fmt: skip
    paths = api.get("/openapi.json")["paths"]
    asked = 0
    for path in sorted(p for p, operations in paths.items() if "get" in operations):
        noun = next((p for p in reversed(re.sub(r"\{[^}]*\}.*", "", path).split("/")) if p), "")
        filled = path.replace("{kind}", "budget").replace("{path}", "x").replace("{id}", ours.get(noun, "x"))
        if "{kind}" in path and "{id}" in path:
            filled = "/v1/policies/budget/req-own"
        if "{" in filled:
            raise AssertionError(f"what stands for {path}?")
        query = {"member": "req1", "campaign": "req-code"} if path == "/v1/explain" else {}
        answer = other.call("GET", filled, **query)
        asked += 1
        if answer.status_code == 501:
            problem(answer, 501)
        elif "{id}" in path or path == "/v1/explain":
            assert answer.status_code == 404, f"GET {filled} says {answer.status_code} {answer.text[:300]}"
            problem(answer, 404)
        elif path == "/v1/test-clock":
            problem(answer, 409)
        else:
            assert answer.status_code == 200, f"GET {filled} says {answer.status_code} {answer.text[:300]}"
            text = answer.text
            assert "req-own" not in text and "req-code" not in text and run_id not in text, f"GET {filled} tells of us"
    assert asked > 25
    other.send(introduce("req1", ago(1)))
    until(lambda: other.call("GET", "/v1/members/req1").status_code == 200, "their own req1")
    assert other.get("/v1/members/req1")["member_id"] != api.get("/v1/members/req1")["member_id"]
