"""Events that come in any order, more than once, or in another version's form."""

import json
import random
from collections import Counter
from typing import Any

import grpc

from tests.stress import eye as eyes
from tests.stress import load as loads
from tests.stress.eye import EVENTS, Eye
from tests.stress.lab import Lab, World
from tests.stress.load import Load
from tests.stress.registry import Outcome, case
from tests.stress.writer import writer
from tests.support.spine_api import Api

DAYS = "2026-11-{:02d}T{:02d}:{:02d}:{:02d}Z"
SEGMENTS = {
    "many": {"event": {"name": loads.ORDER, "measure": "count", "operator": "gte", "value": 3, "within": "P90D"}},
    "rich": {
        "event": {"name": loads.ORDER, "measure": "sum", "property": "total", "operator": "gt", "value": 100},
    },
    "gold": {"trait": {"field": "plan", "operator": "eq", "value": "gold"}},
    "open": {"consent": {"channel": "email", "topic": "offers", "state": "granted"}},
}


def _life(user: str, events: int, rnd: random.Random) -> list[dict[str, Any]]:
    """A life over nineteen days before today; every event at an instant of its own."""
    out = []
    minute = 0
    for n in range(events):
        minute += rnd.randrange(1, max(2, 19 * 1440 // events))
        at = DAYS.format(1 + minute // 1440, minute // 60 % 24, minute % 60, n % 60)
        body: dict[str, Any] = {"userId": user, "messageId": f"{user}-{n}", "timestamp": at}
        match n % 5:
            case 0:
                traits = {"plan": rnd.choice(("gold", "free")), "visits": n, "email": f"{n}@x.example"}
                body |= {"type": "identify", "traits": traits}
            case 1:
                said = {"channel": "email", "topic": "offers", "state": rnd.choice(("granted", "denied"))}
                body |= {"type": "track", "event": "Consent Changed", "properties": {**said, "source": "form"}}
            case 2:
                body |= {"type": "track", "event": loads.CART, "properties": {"total": 30}}
            case _:
                body |= {"type": "track", "event": loads.ORDER, "properties": {"total": rnd.randrange(1, 60)}}
        out.append(body)
    return out


@case("22", "events a week late, out of order, shuffled", share=5, least=1_000)
def any_order(lab: Lab, n: int) -> Outcome:
    """Each member twice: once in order, once shuffled over all its days. Both must end the same."""
    world = lab.world()
    api = world.space("c22")
    for name, rule in SEGMENTS.items():
        api.put(f"/v1/segments/{name}", {"name": name, "rule": rule})
    eye = Eye(world, api)
    each = 20
    pairs = max(1, n // (2 * each))
    straight, mixed = [], []
    for p in range(pairs):
        straight += _life(f"a-{p}", each, random.Random(f"{lab.seed}:{p}"))
        mixed += _life(f"b-{p}", each, random.Random(f"{lab.seed}:{p}"))
    random.Random(lab.seed).shuffle(mixed)
    api.send(straight)
    api.send(mixed)
    api.drain(120)
    found = {p["user_id"]: _plain(p) for p in eye.profiles().values()}
    segments: dict[str, set[str]] = eye.look().segments
    out = Outcome(2 * pairs * each)
    for p in range(pairs):
        one, other = found.get(f"a-{p}"), found.get(f"b-{p}")
        if one is None or other is None:
            out.lost += 1
        elif one != other:
            apart = {k: (one.get(k), other.get(k)) for k in one.keys() | other.keys() if one.get(k) != other.get(k)}
            out.must(False, f"member {p} differs: {apart}"[:600])
        first, second = segments.get(f"a-{p}", set()), segments.get(f"b-{p}", set())
        out.must(first == second, f"member {p}: segments {first} in order, {second} shuffled")
    out.figure = f"{pairs} members in order and shuffled, {sum(map(len, segments.values()))} memberships"
    return out


def _plain(profile: dict[str, Any]) -> dict[str, Any]:
    """A profile without what names it or tells when it was worked on."""
    text = json.dumps(profile).replace('"a-', '"_-').replace('"b-', '"_-')
    out = json.loads(text)
    for name in ("member_id", "created_at", "updated_at", "first_seen"):
        out.pop(name, None)
    out["consents"] = sorted(out.get("consents") or [], key=lambda c: (c["channel"], c["topic"]))
    return dict(sorted(out.items()))


@case("23", "every event three times, some with another body", share=8, least=1_000)
def three_times(lab: Lab, n: int) -> Outcome:
    """The first body counts, the others change nothing."""
    world = lab.world()
    api = world.space("c23")
    loads.define(api)
    eye = Eye(world, api)
    third = n // 3
    load = Load(api, "c23", third, lab.seed).start().wait()
    other = 0
    for _ in range(2):
        again = Load(api, "c23", third, lab.seed)
        for lane in again._lanes:
            for k, event in enumerate(lane):
                if k % 7 == 0 and event.get("event") == loads.ORDER:
                    event["properties"] = {"total": 1_000_000}
                    event["event"] = loads.PAGE
                    other += 1
        again.start().wait()
    api.drain(90)
    out, seen = eyes.judge(load, eye)
    out.n = 3 * third
    thrice = sum(c == 3 for c in seen.logged.values())
    out.must(thrice == load.total, f"{thrice} of {load.total} ids were logged three times")
    bodies: dict[str, set[str]] = {}
    for r in eye.records(EVENTS):
        value = json.loads(r.value)
        bodies.setdefault(value["message_id"], set()).add(json.dumps([value.get("event"), value.get("properties")]))
    conflicts = sum(len(b) - 1 for b in bodies.values())
    out.must(conflicts == len({i for i, b in bodies.items() if len(b) > 1}), "a conflict counted twice")
    out.must(bool(other) == bool(conflicts), "the other bodies are not in the log")
    out.figure = f"{conflicts} ids with another body, the first one counts"
    return out


OLD = ("workspace", "type", "message_id", "sender", "timestamp", "received_at", "user_id", "event")
"""What an event had from its first day on."""
STRANGE = {"a_later_field": {"deep": [1, 2, {"x": None}]}, "another": "value"}
KINDS = ("rondo.commands.v1", "rondo.deliveries.v1", "rondo.engagement.v1", "rondo.moves.v1")


@case("25", "records and calls of older and newer versions", share=2, least=500)
def versions(lab: Lab, n: int) -> Outcome:
    """Events with only their first fields, events with fields of a later version, commands of an unknown kind,
    a gRPC call with an unknown field: read, applied, no dead letter."""
    world = lab.world()
    api = world.space("c25")
    topics = [f"{t}.dlq" for t in (EVENTS, *KINDS)]
    eye = Eye(world, api, *topics)
    api.send([{"type": "track", "userId": "seed", "event": loads.PAGE, "messageId": "seed"}])
    api.drain()
    pattern = json.loads(next(iter(eye.records(EVENTS))).value)
    out = Outcome(0)
    wanted: Counter[str] = Counter()
    with writer(world.bootstrap) as put:
        for i in range(n):
            user = f"v-{i % 50}"
            body = {k: pattern[k] for k in OLD if k in pattern}
            body |= {"sender": eye.member_of(user), "user_id": user, "message_id": f"v-{i}", "event": loads.ORDER}
            if i % 2:
                body |= STRANGE
            put.put(EVENTS, f"{api.workspace}:{body['sender']}", json.dumps(body).encode())
            wanted[f"v-{i}"] += 1
        for topic in KINDS:
            key = f"{api.workspace}:{eye.member_of('v-0')}"
            put.put(topic, key, json.dumps(_unknown(topic, api, eye)).encode())
    api.drain(60)
    seen = eye.look()
    out.n = n + len(KINDS)
    out.lost = len(wanted.keys() - seen.applied.keys())
    out.repeated = sum(c - 1 for c in seen.applied.values())
    dead = [(r.topic, dict(r.headers)) for r in eye.records(*topics)]
    out.must(not dead, f"{len(dead)} dead letters: {dead[:2]}")
    out.must(_grpc_with_more(world, api), "a gRPC call with an unknown field was refused")
    out.figure = f"{n} events of two versions, {len(KINDS)} records of unknown kinds, {len(dead)} dead letters"
    return out


def _unknown(topic: str, api: Api, eye: Eye) -> dict[str, Any]:
    """A record of a kind that only a later version knows."""
    member, at = eye.member_of("v-0"), "2026-11-20T10:00:00.000Z"
    body = {"workspace": api.workspace, "id": "later-1", "kind": "later.kind", "at": at, "member_id": member, **STRANGE}
    if topic == "rondo.deliveries.v1":
        body |= {"touch_id": "t-later", "channel": "email", "provider": "later", "status": "carved_in_stone"}
    if topic == "rondo.moves.v1":
        body |= {"stage": "later", "origin": member, "revision": 1, "state": {}}
    return body


def _grpc_with_more(world: World, api: Api) -> bool:
    """ListMembers with a field of number 99, in raw bytes."""
    name = api.workspace.encode()
    request = b"\x0a" + bytes([len(name)]) + name + b"\x9a\x06\x05later"
    with grpc.insecure_channel(world.stack.grpc("profiles")) as channel:
        call = channel.unary_unary("/rondo_protos.profiles.v1.ProfilesService/ListMembers")
        return len(call(request, timeout=10)) > 0
