"""One, two and three of each worker share the work, with equal results to the last touch.

The same seeded events, campaigns and answers go through three stacks under the same frozen clock and
secret, so that all ids are the same; only the number of processes differs.

    pytest -s tests/stress/instances
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from rondo_cli import broker
from tests.support import spine_workload as work
from tests.support.spine_api import Api, until
from tests.support.spine_compare import End, differences, look
from tests.support.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

ENV = {
    "RONDO_SECRET": "the same secret for all three",
    # thirty processes on two cores may keep a provider's answer waiting; that is not what is asked here
    "RONDO_DELIVERY_TIMEOUT": "120",
}
WORKERS = (
    *("profiles", "segmentation", "campaigns", "rhythm", "egress", "community"),
    *("delivery-email", "delivery-sms", "delivery-messaging"),
)
DOORS = ("ingestion", "links", "gateway")
ANSWERS = 12
"""Members who write back."""


def story(api: Api) -> str:
    """Everything, up to the end. The broadcast's run."""
    made = work.make()
    work.define(api)
    api.drain(120)
    api.send_lanes(made.lanes, 0.0)
    api.send(made.live)
    api.drain(240)
    run = str(api.post("/v1/campaigns/spring/start", key="instances")["run_id"])
    api.settled(run, 240)
    api.drain(240)
    told = sum(m["channel"] != "messaging" for m in api.inbox(run_id=run))
    until(lambda: api.run(run)["engagement"].get("delivered", 0) >= told, f"{told} callbacks", 120, 0.5)
    api.advance(work.AFTERWARDS)
    texts = sorted((m for m in api.inbox(run_id=run) if m["channel"] == "sms"), key=lambda m: m["touch_id"])
    for message in texts[:ANSWERS]:
        api.post(f"/v1/inbox/messages/{message['id']}/reply", {"text": "when does it open?"})
    until(lambda: len(api.all("/v1/conversations")) >= ANSWERS, "the conversations", 120, 0.5)
    api.drain(240)
    return run


def talks(api: Api) -> dict[str, Any]:
    """Conversations by member: channel, status, what was said."""
    found = api.all("/v1/conversations")
    by_member = {c["member_id"]: (c["channel"], c["status"], [m["text"] for m in c["messages"]]) for c in found}
    assert len(by_member) == len(found), "a member has two conversations"
    return by_member


def working(stack: Stack) -> dict[str, list[int]]:
    """By stage: how many records each of its instances has handled."""
    out = {}
    for name in WORKERS:
        if name != "community":
            out[name] = [handled(i["metrics"]) for i in stack.state["services"][name]["instances"]]
    return out


def handled(url: str) -> int:
    """Records of a stage's process since it started."""
    lines = httpx.get(url, timeout=10, trust_env=False).text.splitlines()
    return int(sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith("rondo_stream_records_total{")))


def test_more_of_each_worker_end_the_same(fresh_stack: Callable[..., Stack]) -> None:
    ends: dict[int, tuple[End, dict[str, Any], dict[str, Any]]] = {}
    for count in (1, 2, 3):
        scale = dict.fromkeys(WORKERS, count) | dict.fromkeys(DOORS, min(count, 2))
        stack = fresh_stack(scale=scale, test_clock=work.NOW, env=ENV)
        with Api(stack) as api:
            begun = time.monotonic()
            run = api.run(story(api))
            seconds = time.monotonic() - begun
            ends[count] = look(api), talks(api), {k: run[k] for k in ("audience", "touches", "counts", "reasons")}
            shares = working(stack)
        print(f"{count} of each: {seconds:.0f} s, {ends[count][0].summary()}", flush=True)
        print(f"  records by instance: {shares}", flush=True)
        for name, each in shares.items():
            assert len(each) == count and all(each), f"an instance of {name} had nothing to do: {each}"
        with broker.admin(stack.kafka) as client:
            dead = [t for t in broker.topic_names(client) if t.endswith(".dlq")]
            assert not sum(broker.ends(client, broker.all_partitions(client, dead)).values()), "there are dead letters"
        stack.stop()
    wanted = ends[1]
    _sound(wanted[0])
    for count in (2, 3):
        found = ends[count]
        _sound(found[0])
        wrong = [
            line
            for what in ("profiles", "contacts", "memberships", "verdicts", "outcomes")
            for line in differences(what, getattr(wanted[0], what), getattr(found[0], what))
        ]
        wrong += differences("conversation", wanted[1], found[1]) + differences("run", wanted[2], found[2])
        assert not wrong, f"{count} of each:\n" + "\n".join(wrong)
        assert found[0].captured == wanted[0].captured


def _sound(end: End) -> None:
    """What must hold of any end by itself."""
    assert len(end.profiles) == work.MEMBERS
    assert Counter(end.captured.values()).keys() == {1}, "a touch was captured twice"
    assert not end.with_outcome("unknown")
    # only what Rondo itself says: a provider may repeat a callback when the answer takes it too long, and its
    # event then comes again under the same id
    assert max(end.crm_sent.values()) == 1, "a CRM heard twice of a message"
    assert set(end.crm_sent) == end.with_outcome("sent")
