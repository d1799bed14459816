"""Runs: counts that always add up, pause, resume and cancel in the middle of a broadcast."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rondo_common.clock import from_iso
from tests.support.slowness import slowness
from tests.support.spine_api import Api, until
from tests.support.spine_people import introduce

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CROWD = 1_200
TELEGRAM = [("messaging", "offers"), ("messaging", "*")]
BROADCAST = {
    "type": "broadcast",
    "class": "marketing",
    "topic": "offers",
    "template": "spine",
    "channels": ["messaging"],
    "audience": {"segment": "crowd"},
    "schedule": {"at": "now"},
}


@pytest.fixture(scope="module")
def crowd(api: Api) -> int:
    """A segment of CROWD members, most of whom can be written to by Telegram; how many that are."""
    api.put(
        "/v1/segments/crowd", {"name": "Crowd", "rule": {"trait": {"field": "crowd", "operator": "eq", "value": 1}}}
    )
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    events, reachable = [], 0
    for n in range(CROWD):
        consents = {("messaging", "offers"): "denied" if n % 10 == 1 else "granted"} if n % 10 != 2 else {}
        chat = None if n % 10 == 3 else str(8_000_000 + n)
        reachable += n % 10 not in (1, 2, 3)
        events += introduce(f"crowd{n}", at, consents, email=None, phone=None, telegram_chat_id=chat, crowd=1)
    api.send(events)
    api.drain()
    api.live("crowd", CROWD)
    return reachable


def begin(api: Api, name: str, **more: Any) -> str:
    api.put(f"/v1/campaigns/{name}", {**BROADCAST, **more})
    run_id: str = api.post(f"/v1/campaigns/{name}/start", key=f"start-{name}")["run_id"]
    return run_id


def under_way(api: Api, run_id: str) -> None:
    """Wait for the first captured messages of a run."""
    until(lambda: len(api.get("/v1/inbox/messages", run_id=run_id, limit=20)["data"]) >= 20, "first messages", 60, 0.02)


def latest(api: Api, run_id: str) -> float:
    """When the last message of a run was captured, seconds since 1970."""
    return from_iso(api.get("/v1/inbox/messages", run_id=run_id, limit=1)["data"][0]["received_at"]) / 1000


def once_each(api: Api, run_id: str, count: int) -> None:
    """The inbox has each touch of the run once."""
    touches = [m["touch_id"] for m in api.inbox(run_id=run_id)]
    assert len(touches) == len(set(touches)) == count
    assert api.get("/v1/inbox/stats")["repeats"] == 0


def test_counts_add_up_all_the_way(api: Api, crowd: int) -> None:
    run_id = begin(api, "runs-plain")
    seen = []

    def done(run: dict[str, Any]) -> bool:  # Api.run checks the sums of every answer
        seen.append(run["counts"])
        return run["status"] == "finished"

    run = api.run_until(run_id, done, "the end", 90)
    assert (run["audience"], run["touches"]) == (CROWD, CROWD)
    assert run["counts"]["sent"] == crowd
    tenth = CROWD // 10
    assert run["reasons"]["skipped"] == {"consent_denied": tenth, "consent_missing": tenth, "no_address": tenth}
    assert any(0 < c["sent"] < crowd for c in seen), "never seen in the middle"
    assert run["finished_at"] and run["eta_s"] == 0
    once_each(api, run_id, crowd)
    assert api.post("/v1/campaigns/runs-plain/start", key="start-runs-plain")["run_id"] == run_id
    api.drain()
    once_each(api, run_id, crowd)
    assert run_id in [r["run_id"] for r in api.get("/v1/runs", campaign="runs-plain")["data"]]


def test_pause_holds_within_a_second_and_resume_loses_nothing(api: Api, crowd: int) -> None:
    run_id = begin(api, "runs-pause")
    under_way(api, run_id)
    assert api.post("/v1/campaigns/runs-pause/pause")["status"] == "paused"
    paused = time.time()
    within = 1.0 * slowness()
    time.sleep(2.5 * within)
    assert latest(api, run_id) <= paused + within
    run = api.run(run_id)
    assert run["status"] == "paused"
    held = len(api.inbox(run_id=run_id))
    assert 0 < held < crowd, "nothing was left to hold"
    assert run["counts"]["sent"] <= held
    assert api.post("/v1/campaigns/runs-pause/resume")["status"] == "active"
    run = api.finished(run_id, 90)
    assert run["counts"]["sent"] == crowd, run
    once_each(api, run_id, crowd)


def test_cancel_ends_it_within_a_second(api: Api, crowd: int) -> None:
    run_id = begin(api, "runs-cancel")
    under_way(api, run_id)
    assert api.post("/v1/campaigns/runs-cancel/cancel")["status"] == "cancelled"
    cancelled = time.time()
    within = 1.0 * slowness()
    api.drain()
    time.sleep(max(0.0, cancelled + 2.0 * within - time.time()))
    assert latest(api, run_id) <= cancelled + within
    run = api.run(run_id)
    assert run["status"] == "cancelled"
    counts, skipped = run["counts"], run["reasons"]["skipped"]
    captured = len(api.inbox(run_id=run_id))
    assert 0 < captured < crowd, "nothing was left to cancel"
    assert counts["sent"] == captured
    assert skipped["campaign_cancelled"] > 0
    assert counts["sent"] + counts["skipped"] == run["touches"]
    once_each(api, run_id, captured)
