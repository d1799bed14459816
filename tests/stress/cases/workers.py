"""Workers: killed in turn, beside each other, rebalanced without end."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from confluent_kafka import Consumer

from rondo_cli import backlog
from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress import takeover
from tests.stress.eye import Eye
from tests.stress.lab import SETTINGS, Lab, World
from tests.stress.load import Load
from tests.stress.registry import Outcome, case

PAIRS = [
    (("profiles", 0), ("rhythm", 0)),
    (("segmentation", 0), ("delivery-email", 0)),
    (("campaigns", 0), ("delivery-sms", 0)),
    (("profiles", 1), ("delivery-messaging", 0)),
    (("egress", 0), ("delivery-email", 1)),
]
"""All workers, two at a time: work that one of a pair feeds to the other waits for both."""
OTHERS = ["gateway", "insights", "links", "ingestion", "dashboard", "community", "capture"]
ROUNDS = 4
LONGEST_S = 15.0
OPEN_CALLS = 64
"""Calls a worker has open at most: what one kill may leave unknown while its marks are in Redis."""
AHEAD = 500
"""Calls it has written ahead at most: the same when the marks are lost at that moment."""


@case("2", "kill -9 of every worker in turn, the doors beside", share=30, least=2_000)
def each_in_turn(lab: Lab, n: int) -> Outcome:
    """Four rounds over all stages, as far as a minute goes; doors and views are killed meanwhile. Then a
    broadcast, and its makers killed at random."""
    world = lab.world()
    rnd = random.Random(lab.seed)
    api = world.space("c2")
    loads.define(api)
    eye = Eye(world, api)
    load = Load(api, "c2", n, lab.seed, rate=n / 60).start()
    first, kills, others = Outcome(n), 0, iter(OTHERS * ROUNDS)
    begun = time.monotonic()
    for turn, pair in enumerate(PAIRS * ROUNDS):
        if not load.sending or time.monotonic() - begun > 65:
            break
        world.stack.kill(next(others))
        killed = []
        for name, slot in pair:
            world.kill(name, slot)
            killed.append((name, time.monotonic()))
        kills += 1 + len(pair)
        for name, at in killed:
            if turn >= len(PAIRS):
                time.sleep(rnd.uniform(0.3, 1.0))
            elif (taken := takeover.seconds(world, name, at)) is not None:
                first.took(taken)
    first.must(turn >= len(PAIRS), "not every worker was killed in time")
    load.wait()
    world.ready()
    api.drain(90)
    api.post(f"/v1/campaigns/{loads.SPRING}/start", key="c2")
    calling = 0
    for name in rnd.sample(["delivery-email", "delivery-sms", "rhythm", "delivery-messaging", "campaigns"], 5):
        world.kill(name)
        kills += 1
        calling += name.startswith("delivery")
    world.ready()
    api.drain(90)
    out, _ = eyes.judge(load, eye, broadcast=True, bound=OPEN_CALLS * calling + 4 * OPEN_CALLS)
    out.takeover = first.takeover
    out.wrong += first.wrong
    out.must((out.takeover or 0) < LONGEST_S, f"a takeover took {out.takeover:.1f} s")
    out.figure = f"{kills} kills, {len(world.monkey.kills)} proven inside an open batch"
    return out


@case("3", "kill -9 of the Faust worker with many events in flight", share=2, least=500)
def faust(lab: Lab, n: int) -> Outcome:
    """The stock worker lost 421 to 444 events here. Each message must end in one line of one conversation."""
    world = lab.world()
    # a bot's updates name no workspace: they are the first one's
    api = world.owner()
    eye = Eye(world, api)
    talkers = [f"c3-{i}" for i in range(50)]
    chats = {user: 3_000_000_000 + i for i, user in enumerate(talkers)}
    api.send({"type": "identify", "userId": u, "traits": {"telegram_chat_id": str(c)}} for u, c in chats.items())
    api.drain()
    said = [(f"message {k}", talkers[k % len(talkers)]) for k in range(n)]
    done = threading.Event()
    failure: list[BaseException] = []

    def talk() -> None:
        try:
            _talk(world, [(text, chats[user]) for text, user in said])
        except BaseException as e:
            failure.append(e)
        finally:
            done.set()

    threading.Thread(target=talk, daemon=True).start()
    kills = 0
    out = Outcome(n)
    while not done.is_set() and kills < 8:
        done.wait(3.0)
        world.stack.kill("community")
        kills += 1
        out.took(world.answers("community"))
    done.wait(60)
    assert not failure, failure
    world.ready()
    api.drain(90)
    heard: dict[str, int] = {}
    for conversation in api.all("/v1/conversations"):
        for line in conversation["messages"]:
            if line["direction"] == "in":
                heard[line["text"]] = heard.get(line["text"], 0) + 1
    out.lost = sum(text not in heard for text, _ in said)
    out.repeated = sum(c - 1 for c in heard.values())
    out.figure = f"{kills} kills (stock Faust: 421 to 444 lost)"
    out.must(not any(True for _ in eye.records("rondo.inbound.v1.dlq")), "there are dead letters")
    return out


def _talk(world: World, said: list[tuple[str, int]]) -> None:
    """Say it all through the webhook, each until it is taken."""
    url = f"{world.stack.http('ingestion')}/v1/callbacks/telegram"
    headers = {"X-Telegram-Bot-Api-Secret-Token": SETTINGS["RONDO_TELEGRAM_SECRET"]}
    with httpx.Client(timeout=10, trust_env=False, headers=headers) as client:
        for number, (text, chat) in enumerate(said):
            body = {
                "update_id": number + 1,
                "message": {
                    "message_id": number + 1,
                    "date": int(time.time()),
                    "chat": {"id": chat, "type": "private"},
                    "from": {"id": chat, "is_bot": False, "first_name": "x"},
                    "text": text,
                },
            }
            for _ in range(100):
                answer = client.post(url, json=body)
                if answer.status_code == 200:
                    break
                assert answer.status_code >= 429, answer.text
                time.sleep(0.2)


@case("8", "a rebalance every 2 s for a minute", share=25, least=2_000)
def storm(lab: Lab, n: int) -> Outcome:
    """Somebody joins and leaves the groups of profiles and segmentation again and again. A fifth of the calm
    pace must remain, and everything must come out."""
    world = lab.world()
    api = world.space("c8")
    loads.define(api)
    eye = Eye(world, api)
    calm_n = n // 4
    begun = time.monotonic()
    calm = Load(api, "c8calm", calm_n, lab.seed).start().wait()
    api.drain(90)
    calm_rate = calm_n / (time.monotonic() - begun)
    with _storm(world, ("profiles", "segmentation")) as joined:
        begun = time.monotonic()
        load = Load(api, "c8", n - calm_n, lab.seed).start().wait()
        api.drain(150)
        spent = time.monotonic() - begun
        rate = (n - calm_n) / spent
        time.sleep(max(0.0, (60 if n >= 10_000 else 15) - spent))
    api.drain(60)
    seen = eye.look()
    out = eyes.events(load, seen)
    mine = {p.user for p in calm.people}
    # both loads are in the workspace: the other one's buyers are no surplus
    out.wrong = [w for w in out.wrong if not w.startswith("buyers")]
    wanted = {p.user for p in (*calm.people, *load.people) if p.buyer}
    found = {u for u, segments in seen.segments.items() if loads.BUYERS in segments}
    out.must(wanted == found, f"buyers: {eyes.some(wanted ^ found)} (of {len(mine)} before the storm)")
    out.add(eyes.sends(seen))
    out.n = n
    out.must(rate > calm_rate / 5, f"{rate:.0f}/s in the storm, {calm_rate:.0f}/s when calm")
    out.figure = f"{joined[0]} joins and leaves, {100 * rate / calm_rate:.0f} % of the calm {calm_rate:.0f} events/s"
    return out


@contextmanager
def _storm(world: World, stages: tuple[str, ...]) -> Iterator[list[int]]:
    """A member that joins each group for a second, every two seconds. It takes partitions and does nothing."""
    over, joined = threading.Event(), [0]

    def run(stage: str) -> None:
        topics = sorted(backlog.expected([stage])[backlog.group_of(stage)])
        settings = {
            "bootstrap.servers": world.bootstrap,
            "group.id": backlog.group_of(stage),
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
        while not over.is_set():
            began = time.monotonic()
            member = Consumer(settings)
            member.subscribe(topics)
            while time.monotonic() - began < 1.0 and not over.is_set():
                member.poll(0.1)
            member.close()
            joined[0] += 1
            over.wait(max(0.0, 2.0 - (time.monotonic() - began)))

    threads = [threading.Thread(target=run, args=(s,), daemon=True) for s in stages]
    for t in threads:
        t.start()
    try:
        yield joined
    finally:
        over.set()
        for t in threads:
            t.join(20)
