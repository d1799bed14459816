"""Sends: workers killed and stopped in the middle of calls, providers that fail in every way."""

import math
import time
from contextlib import suppress
from typing import Any

import httpx

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress import servers
from tests.stress.cases.workers import OPEN_CALLS
from tests.stress.eye import Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.provider import faults
from tests.stress.provider.faults import Plan
from tests.stress.registry import Outcome, case
from tests.support.spine_api import Api, until

WORKERS = ["delivery-email", "delivery-sms", "delivery-messaging"]


def audience(lab: Lab, tag: str, n: int, cart: bool = False) -> tuple[World, Api, Eye, Load]:
    """A workspace with its people in it, ready for a broadcast."""
    world = lab.world()
    api = world.space(tag)
    loads.define(api, cart)
    eye = Eye(world, api)
    load = Load(api, tag, n, lab.seed).start().wait()
    api.drain(90)
    return world, api, eye, load


def start(api: Api, campaign: str = loads.SPRING, again: int = 0) -> str:
    """Start a run; its id, once it has a touch."""
    run: str = api.post(f"/v1/campaigns/{campaign}/start", key=f"start-{campaign}-{again}")["run_id"]
    until(lambda: _run(api, run).get("touches"), "a touch", 30)
    return run


def settled(api: Api, run: str, timeout_s: float = 90.0) -> None:
    """Wait until nothing of the run is under way. Its view may be away meanwhile."""

    def look() -> bool:
        found = _run(api, run)
        return bool(found.get("touches")) and not found["counts"]["pending"] and not found["counts"]["queued"]

    until(look, f"run {run} settled", timeout_s, 0.2)
    api.drain(60)


def _run(api: Api, run: str) -> dict[str, Any]:
    """The run, empty when nobody can tell just now."""
    with suppress(httpx.HTTPError):
        answer = api.call("GET", f"/v1/runs/{run}")
        if answer.status_code != 503:
            assert answer.is_success, answer.text
            found: dict[str, Any] = answer.json()
            return found
    return {}


@case("4", "kill -9 of delivery x12, provider with 13 % faults", share=14, least=2_000)
def killed_senders(lab: Lab, n: int) -> Outcome:
    """429, 500 before and after accepting, late answers, resets; the workers die inside open batches."""
    world, api, eye, load = audience(lab, "c4", n, cart=True)
    world.provider.behave(Plan(shares=faults.THIRTEEN_PERCENT, slow=0.15, seed=lab.seed))
    kills = len(world.monkey.kills)
    run = start(api)
    for k in range(12):
        world.kill(WORKERS[k % 3], 1 if k % 6 == 3 else 0)
        time.sleep(0.5)
    world.ready()
    settled(api, run)
    out, seen = eyes.judge(load, eye, broadcast=True, bound=12 * OPEN_CALLS)
    out.figure = (
        f"{sum(c['fate'] != faults.TAKE for c in seen.calls)} faults in {len(seen.calls)} calls, "
        f"{len(world.monkey.kills) - kills} kills inside an open batch"
    )
    return out


@case("7", "SIGSTOP of a delivery worker for 15 s in mid-send, two workers", share=4, least=1_000)
def zombie(lab: Lab, n: int) -> Outcome:
    """Longer than its lease: the other one takes over, and the one that comes back sends nothing."""
    world, api, eye, load = audience(lab, "c7", n)
    out = Outcome(0)
    stops, tries = 2, 0
    for again in range(stops):
        world.provider.behave(Plan(slow=1.0), "email")
        before = len(eye.calls())
        run = start(api, again=again)
        until(lambda b=before: len(eye.calls()) > b, "a call", 30)
        until(lambda r=run: api.run(r)["counts"]["queued"], "sends under way", 30)
        time.sleep(0.5)
        pid = world.stack.pid("delivery-email", again)
        assert pid is not None
        with servers.stopped(pid):
            stopped_at = time.monotonic()
            open_ = api.run(run)["counts"]["queued"]
            tries += open_
            world.provider.behave(Plan(slow=0.05), "email")
            until(lambda r=run, o=open_: api.run(r)["counts"]["queued"] < o, "a send by the other worker", 15, 0.1)
            out.took(time.monotonic() - stopped_at)
            time.sleep(max(0.0, 15 - (time.monotonic() - stopped_at)))
        world.ready()
        settled(api, run)
    seen = eye.look()
    out.add(eyes.sends(seen))
    out.bound = stops * OPEN_CALLS
    out.n = len(seen.let_through)
    wanted = (
        2 * len([p for p in load.people if p.buyer]) + len([p for p in load.people if p.buyer and p.mail])
    ) * stops
    out.must(out.n == wanted, f"{out.n} were let through, not {wanted}")
    out.figure = f"{stops} stops with {tries} sends under way"
    return out


@case("16", "429 with Retry-After, 5 calls/s allowed", share=2, least=3_000)
def too_many(lab: Lab, n: int) -> Outcome:
    """No try before the provider's own time, none given up, the tries spread."""
    world, api, eye, load = audience(lab, "c16", n)
    limit, after = 5.0, 2
    world.provider.behave(Plan(limit=limit, retry_after=after), "sms")
    run = start(api)
    settled(api, run)
    out, seen = eyes.judge(load, eye, broadcast=True, cart=False)
    calls = [c for c in seen.calls if c["channel"] == "sms"]
    early, last = 0, {}
    for c in calls:
        if (before := last.get(c["touch"])) and before["fate"] == faults.BUSY:
            early += c["at"] - before["at"] < after - 0.05
        last[c["touch"]] = c
    at = sorted(c["at"] for c in calls if c["taken"])
    spent = max(at[-1] - at[0], 1.0)
    rate = (len(at) - limit) / spent if len(at) > limit else 0.0  # beyond the second's worth the bucket holds
    out.n = len(at)
    out.must(early == 0, f"{early} calls came before Retry-After")
    out.must(rate <= limit * 1.05, f"{rate:.1f} taken a second, {limit:.0f} allowed")
    out.must(len(calls) > len(at), "the provider never said 429")
    out.figure = f"{len(calls)} calls for {len(at)} messages in {spent:.0f} s, {early} too early"
    return out


@case("17", "500 from the provider for 60 s", share=2, least=1_500)
def down(lab: Lab, n: int) -> Outcome:
    """The breaker opens, probes, closes: hardly a call is made in between, and nothing is lost."""
    world, api, eye, _load = audience(lab, "c17", n)
    world.provider.behave(Plan(slow=0.1), "messaging")
    settled(api, start(api))
    calm = [c["at"] for c in eye.calls() if c["channel"] == "messaging"]
    calm_rate = len(calm) / max(0.5, max(calm) - min(calm))
    world.provider.behave(Plan(fate=faults.ERROR), "messaging")
    mark = len(eye.calls())
    run = start(api, again=1)
    began = time.monotonic()
    until(lambda: any(c["fate"] == faults.ERROR for c in eye.calls()[mark:]), "a failing call", 20)
    time.sleep(max(0.0, 60 - (time.monotonic() - began)))
    attempts = sum(c["channel"] == "messaging" for c in eye.calls()[mark:])
    world.provider.behave(Plan())
    ended = time.monotonic()
    settled(api, run, 120)
    out = Outcome(0)
    out.took(time.monotonic() - ended)
    seen = eye.look()
    out.add(eyes.sends(seen))
    out.bound = attempts
    out.n = len(seen.let_through)
    share = attempts / (calm_rate * 60)
    out.must(share < 0.03, f"{attempts} calls while it was down, {100 * share:.1f} % of calm")
    out.must(not seen.with_outcome("failed"), f"given up: {eyes.some(seen.with_outcome('failed'))}")
    out.figure = f"{attempts} calls in 60 s, {100 * share:.1f} % of the calm {calm_rate:.0f}/s"
    return out


@case("18", "the provider accepts and never answers, or resets in mid-answer", share=2, least=1_500)
def no_answer(lab: Lab, n: int) -> Outcome:
    """Who can be asked is asked: nothing is repeated, nothing stays open. Where nobody can be asked, an offer
    is left unknown, and a receipt is sent again, as its class says."""
    world, api, eye, load = audience(lab, "c18", n)
    bad = {faults.SILENT: 0.1, faults.RESET: 0.1, faults.RESET_TAKEN: 0.1}
    world.provider.behave(Plan(shares=bad, seed=lab.seed))
    run = start(api)
    receipts = [p.user for p in load.people[: min(40, len(load.people))]]
    sent = {
        api.post("/v1/send/messaging", {"template": "all", "to": {"id": u}, "data": {}})["touch_id"] for u in receipts
    }
    settled(api, run, 120)
    until(lambda: _open_receipts(eye, sent) == 0, "the receipts' end", 60, 1.0)
    api.drain(60)
    seen = eye.look()
    again = {t: n for t, n in seen.taken.items() if t in sent and n > 1}
    asked = {c["touch"] for c in seen.calls if c["channel"] == "sms" and c["fate"] in faults.AMBIGUOUS}
    for touch in again:
        seen.taken[touch] = 1  # the policy of their class, counted apart
    out = eyes.sends(seen, len(seen.let_through))
    out.add(eyes.due(load, seen, eye, broadcast=True, cart=False))
    out.bound = len(seen.ambiguous - asked)
    out.must(not (asked & seen.with_outcome("unknown")), "a text that could be asked about stayed unknown")
    out.must(all(again[t] <= 2 + math.ceil(len(sent) ** 0.5) for t in again), f"a receipt went too often: {again}")
    out.must(sent <= seen.taken.keys() | seen.with_outcome("unknown"), "a receipt never went")
    out.figure = f"{len(asked)} texts asked about, {len(again)} of {len(sent)} receipts repeated by their class"
    return out


def _open_receipts(eye: Eye, sent: set[str]) -> int:
    seen = eye.look()
    return len(sent - seen.with_outcome("sent") - seen.with_outcome("failed"))
