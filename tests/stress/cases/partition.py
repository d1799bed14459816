"""A worker that can't reach the broker any more, and everything else can."""

import time

from tests.stress import eye as eyes
from tests.stress.cases.provider import audience, settled, start
from tests.stress.cases.workers import OPEN_CALLS
from tests.stress.lab import Lab
from tests.stress.provider.faults import Plan
from tests.stress.proxy import Proxy
from tests.stress.registry import Outcome, case
from tests.stress.worker import Worker
from tests.support.spine_api import Api, until

CUT_S = 30.0


@case("29", "no way between a worker and the broker for 30 s", share=4, least=1_000)
def cut_off(lab: Lab, n: int) -> Outcome:
    """A third mail worker behind a proxy that stops carrying, in mid-broadcast: it is fenced, the others take
    over, and when the way is open again it sends nothing twice. A proxy and not a network namespace: that is
    to be had everywhere, and the worker keeps its way to Redis and to the provider, which is worse."""
    world, api, eye, load = audience(lab, "c29", n)
    out = Outcome(0)
    mark = len(eye.calls())
    way = {"RONDO_KAFKA": f"127.0.0.1:{world.broker.way}"}
    with Proxy(world.broker.way, world.broker.side) as proxy, Worker(world, "delivery-email", "7", **way) as third:
        third.wait_ready()
        world.provider.behave(Plan(slow=0.3), "email")
        run = start(api)
        until(lambda: any(c["channel"] == "email" for c in eye.calls()[mark:]), "a mail", 20)
        proxy.cut()
        began = time.monotonic()
        wanted = sum(p.buyer and p.mail for p in load.people)
        at_cut = len({c["touch"] for c in eye.calls()[mark:] if c["channel"] == "email"})
        world.provider.behave(Plan(slow=0.02), "email")
        due = 2 * sum(p.buyer for p in load.people) + wanted
        until(lambda: _done(api, run) >= due, "the others' take-over", CUT_S * 2, 0.2)
        out.took(time.monotonic() - began)
        time.sleep(max(0.0, CUT_S - (time.monotonic() - began)))
        out.must(out.takeover is not None and out.takeover < CUT_S, f"taken over only after {out.takeover:.0f} s")
        # a fenced worker may end meanwhile; its supervisor would start it again
        ended = not third.running
        if ended:
            third.start()
        proxy.mend()
        third.wait_ready()
        settled(api, run)
    world.ready()
    api.drain(60)
    seen = eye.look()
    out.add(eyes.sends(seen))
    out.add(eyes.due(load, seen, eye, broadcast=True, cart=False))
    out.bound = OPEN_CALLS
    out.n = len(seen.let_through)
    out.must(at_cut < wanted, "the mails were out before the cut")
    out.figure = f"{wanted - at_cut} mails to go at the cut" + (", the worker ended by itself" if ended else "")
    return out


def _done(api: Api, run: str) -> int:
    """How many touches of the run have their outcome."""
    counts = api.run(run)["counts"]
    return int(counts["sent"] + counts["unknown"] + counts["failed"])
