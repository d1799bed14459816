"""Disks that are full, folders and views that are gone or damaged."""

import hashlib
import json
import resource
import shutil
import time
from collections import Counter
from typing import Any

import httpx

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress import small_disk
from tests.stress.eye import EVENTS, MEMBER_EVENTS, Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.registry import Outcome, case
from tests.support.spine_api import Api, until

LOOK = "Looked Again"
FEW = ("ingestion", "profiles", "segmentation", "campaigns", "gateway", "insights")


@case("26", "disk full: the broker's, then the warehouse's", share=8, least=2_000, alone=True)
def full(lab: Lab, n: int) -> Outcome:
    """Nothing is accepted that can't be kept; with space again, everything goes on. The warehouse writes
    nothing for a while and misses nothing in the end."""
    world = lab.fresh(scale={}, only=FEW, start_kafka=small_disk.start)
    try:
        return _full(world, lab, n)
    finally:
        world.close()
        world.broker.room.close()


def _full(world: World, lab: Lab, n: int) -> Outcome:
    api = world.space("c26")
    rule = {"event": {"name": loads.ORDER, "measure": "count", "operator": "gte", "value": loads.BUYS}}
    api.put(f"/v1/segments/{loads.BUYERS}", {"name": "Buyers", "rule": rule})
    api.drain()
    eye = Eye(world, api)
    load = Load(api, "c26", n, lab.seed, rate=n / 30).start()
    time.sleep(5)
    world.broker.room.fill()
    filled = time.monotonic()
    time.sleep(12)
    while_full = sum(t > filled + 5 for t in load.answers.at)
    world.broker.room.free()
    died = world.kafka.child.poll() is not None
    if died:
        world.kafka.start()
    freed = time.monotonic()
    until(lambda: any(t > freed for t in load.answers.at), "the door takes events again", 60, 0.1)
    back = time.monotonic() - freed
    pid = world.stack.pid("insights")
    assert pid is not None
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))  # no file grows any more
    time.sleep(4)
    if world.stack.pid("insights") == pid:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    load.wait()
    world.ready(90)
    api.drain(120)
    out, _ = eyes.judge(load, eye, cart=False)
    out.takeover = back
    rows, records = _rows(world, api), _distinct(eye)
    out.must(rows == records, f"the warehouse has {rows} events, the log {records}")
    out.must(while_full == 0, f"{while_full} calls were accepted while the disk was full")
    refused = sum(c for s, c in load.answers.statuses.items() if s != 200)
    out.figure = (
        f"{refused} calls refused or cut, the broker {'ended and was started again' if died else 'lived on'}, "
        f"the warehouse's process {'ended' if world.stack.state['services']['insights']['instances'][0]['restarts'] else 'lived on'}"
    )
    return out


def _query(world: World, statement: str) -> list[list[str]]:
    answer = httpx.post(world.stack.http("insights"), content=statement, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text[:500]
    return [line.split("\t") for line in answer.text.splitlines()]


def _rows(world: World, api: Api) -> tuple[int, int]:
    """Rows of the workspace's member events in the warehouse: all, and distinct by place in the log."""
    found = _query(
        world,
        f"SELECT count(), uniqExact(_partition, _offset) FROM rondo.member_events WHERE workspace = '{api.workspace}'",
    )
    return int(found[0][0]), int(found[0][1])


def _distinct(eye: Eye) -> tuple[int, int]:
    places = [(r.partition, r.offset) for r in eye.records(MEMBER_EVENTS)]
    return len(places), len(set(places))


@case("27", "views and folders gone or damaged", share=3, least=2_000)
def gone(lab: Lab, n: int) -> Outcome:
    """Redis emptied: the same states come back. States in it overwritten with rubbish: nothing wrong is built
    on them. The warehouse's folder deleted: it fills again."""
    world = lab.world()
    api = world.space("c27")
    loads.define(api)
    eye = Eye(world, api, f"{EVENTS}.dlq")
    load = Load(api, "c27", n, lab.seed).start().wait()
    api.drain(90)
    before, keys = _states(world)
    begun = time.monotonic()
    world.redis.flush()
    until(lambda: _whole(world, set(before)), "all partitions are back", 60, 0.05)
    spent = time.monotonic() - begun
    after, _ = _states(world)
    out = Outcome(n)
    apart = [k for k in before.keys() | after.keys() if before.get(k) != after.get(k)]
    out.must(not apart, f"{len(apart)} states differ after the restore: {apart[:4]}")
    try:
        _spoil(world, api.workspace)
        looks = [p.user for p in load.people]
        api.send({"type": "track", "userId": u, "event": LOOK, "messageId": f"{u}-look"} for u in looks)
        api.drain(90)
    finally:
        world.redis.flush()  # nobody else is to work on rubbish
        until(lambda: _whole(world, set(before)), "all partitions are back", 60, 0.05)
    api.drain(60)
    seen = Counter(json.loads(r.value).get("event_id") for r in eye.records(MEMBER_EVENTS))
    missing = [u for u in looks if not seen[f"{u}-look"]]
    out.lost = len(missing)
    out.repeated = sum(max(0, seen[f"{u}-look"] - 1) for u in looks)
    if missing:
        dead = sum(1 for _ in eye.records(f"{EVENTS}.dlq"))
        out.notes.append(f"on a state that can't be read: {len(missing)} events not applied, {dead} dead letters")
    world.ready()
    rows = _rows(world, api)
    world.hold("insights")
    shutil.rmtree(world.stack.folder / "data" / "insights")
    deleted = time.monotonic()
    world.release("insights")
    api.drain(90)
    until(lambda: _rows(world, api) == rows, f"the warehouse's {rows} rows are back", 60, 0.5)
    refilled = time.monotonic() - deleted
    judged, _ = eyes.judge(load, eye)
    judged.add(out)
    judged.takeover = spent
    judged.figure = (
        f"{keys} states back in {spent:.1f} s ({1e6 * spent / keys:.0f} s for a million), "
        f"the warehouse refilled in {refilled:.1f} s"
    )
    return judged


def _states(world: World) -> tuple[dict[str, str], int]:
    """A hash of each partition's states, and how many there are. Not what an owner writes when it takes a
    partition up (~~ its position, g:worker its generation, ~t and ~s its timers and sweeps)."""
    out: dict[str, str] = {}
    count = 0
    with world.redis.client() as client:
        for name in client.scan_iter("{*}:s", 1000):
            found = client.hgetall(name)
            kept = {k: v for k, v in found.items() if not k.startswith((b"~", b"g:worker", b"g:cleaner"))}
            count += len(kept)
            text = hashlib.sha256()
            for key in sorted(kept):
                text.update(key + b"=" + kept[key] + b"\n")
            out[name.decode()] = text.hexdigest()
    return out, count


def _whole(world: World, names: set[str]) -> bool:
    """Every partition has a position again, and none is being restored."""
    with world.redis.client() as client:
        positions = [client.hget(name, "~~pos") for name in names]
    return all(p and not p.startswith(b"r:") for p in positions)


def _spoil(world: World, workspace: str) -> None:
    """Rubbish in every third member's state of profiles and segmentation."""
    with world.redis.client() as client:
        for name in client.scan_iter("{*}:s", 1000):
            if name.split(b":")[0] not in (b"{profiles", b"{segmentation"):
                continue
            mine: list[Any] = [k for k in client.hkeys(name) if k.startswith(f"m:{workspace}:".encode())]
            for key in mine[::3]:
                client.hset(name, key, b"\x00rubbish")
