"""What operators rely on: one trace over all services, and logs without personal data."""

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.slowness import ANSWER_S
from tests.support.spine_api import Api, until
from tests.support.spine_people import introduce, track
from tests.support.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SEEN = {
    "type": "triggered",
    "class": "marketing",
    "topic": "offers",
    "template": "spine",
    "channels": ["email"],
    "trigger": {"event": "Trace Wanted"},
    "reentry": "always",
}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def test_one_trace_from_the_http_call_to_the_provider_call(api: Api, stack: Stack) -> None:
    api.put("/v1/campaigns/traced", SEEN)
    api.post("/v1/campaigns/traced/start")
    api.send(introduce("tracy", now()))
    api.drain()
    trace = secrets.token_hex(12) + "00000001"  # small enough to be among the thousandth that is kept
    above = f"00-{trace}-{secrets.token_hex(8)}-01"
    answer = httpx.post(
        f"{stack.http('ingestion')}/v1/track",
        json=track("tracy", "Trace Wanted", now(), "tracy-1", total=9),
        headers={"traceparent": above},
        auth=(stack.write_key, ""),
        timeout=ANSWER_S,
    )
    assert answer.headers["x-request-id"] == trace
    expected = {
        "POST /v1/track",
        "profiles process rondo.events.v1",
        "campaigns process rondo.member-events.v1",
        "rhythm process rondo.touches.triggered.v1",
        "delivery-email call",
    }

    def mine() -> dict[str, Any]:
        return {s.name: s for _, s in list(stack.collector.spans) if s.trace_id.hex() == trace}

    with suppress(AssertionError):
        until(lambda: expected <= set(mine()), "the spans")
    spans = mine()
    assert expected <= set(spans)
    by_id = {span.span_id: span for span in spans.values()}
    step, names = spans["delivery-email call"], []
    while step is not None:
        names.append(step.name)
        step = by_id.get(step.parent_span_id)
    assert names[-1] == "POST /v1/track" and set(names) >= expected, names
    assert spans["POST /v1/track"].parent_span_id.hex() == above[36:52]
    assert all(b"tracy" not in span.SerializeToString() for span in spans.values())


def test_grpc_calls_are_part_of_the_trace(api: Api, stack: Stack) -> None:
    trace = secrets.token_hex(12) + "00000002"
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01", "Authorization": f"Bearer {stack.admin_key}"}
    assert (
        httpx.get(f"{stack.http('gateway')}/v1/members/nobody-at-all", headers=headers, timeout=ANSWER_S).status_code
        == 404
    )

    def found() -> list[tuple[str, Any]] | None:
        spans = [(service, s) for service, s in list(stack.collector.spans) if s.trace_id.hex() == trace]
        return spans if {"gateway", "profiles"} <= {service for service, _ in spans} and len(spans) >= 3 else None

    spans = until(found, "the gateway's and the profiles service's spans")
    kinds = {(service, span.kind) for service, span in spans}
    assert {("gateway", 2), ("gateway", 3), ("profiles", 2)} <= kinds  # server, client, server
    assert any(span.name == "GET /v1/members/{id}" for _, span in spans)


def test_logs_hold_no_personal_data(api: Api, stack: Stack) -> None:
    canary = f"canary{secrets.token_hex(6)}"
    person = introduce(canary, now(), firstName=f"{canary}-name")
    api.send(person)
    api.send([track(canary, "Trace Wanted", now(), f"{canary}-m", total=9, note=f"{canary} note")])
    until(lambda: api.inbox(to=f"{canary}@example.com"), "her message")
    call = {"base_url": stack.http("gateway"), "headers": {"Authorization": f"Bearer {stack.admin_key}"}}
    with httpx.Client(**call) as gateway, httpx.Client(base_url=stack.http("ingestion"), timeout=ANSWER_S) as door:
        gateway.get(f"/v1/members/{canary}@example.com", params={"id_type": "email"})
        gateway.put(f"/v1/members/{canary}/preferences", json={"tempo": canary})
        gateway.post("/v1/send/email", json={"to": f"{canary}@example.com", "wrong": canary})
        gateway.get(f"/v1/explain?member={canary}&campaign=traced")
        door.post("/v1/track", content=json.dumps({"userId": canary})[:-1], auth=(stack.write_key, ""))
        door.post("/v1/callbacks/twilio/inbound", data={"From": "+15550001234", "Body": canary})
        door.post("/v1/batch", json={"batch": [{"type": "track", "userId": canary, "event": 7}]}, auth=(canary, ""))
    api.drain()
    files = [
        path for path in (stack.folder / "logs").rglob("*") if path.is_file() and not path.name.startswith("kafka")
    ]
    assert {"ingestion", "profiles", "delivery-email"} <= {path.name.split(".")[0] for path in files}
    lines = [(path.name, line) for path in files for line in path.read_text(errors="replace").splitlines()]
    assert lines
    assert not [(name, line) for name, line in lines if canary in line or "+15550001234" in line]
    services = [(name, line) for name, line in lines if not name.startswith(("redis", "rondo", "supervisor"))]
    assert not [(name, line) for name, line in services if not line.startswith("{")], "JSON lines only"
