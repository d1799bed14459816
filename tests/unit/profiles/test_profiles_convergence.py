"""Whatever the order in which partitions hand over events, links and merges, with repeats and events in
flight: members end the same, and as a naive recount says."""

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rondo_common.clock import iso
from rondo_common.records import Event
from services.profiles.order import beats
from tests.support.profiles_world import T0, World, aid, event, uid

USERS = ("u1", "u2", "u3", "u4")
ANONYMOUS = ("a1", "a2", "a3", "u1")  # an anonymous id may read like a user id

who = st.one_of(
    st.tuples(st.sampled_from(USERS), st.none()),
    st.tuples(st.none(), st.sampled_from(ANONYMOUS)),
    st.tuples(st.sampled_from(USERS), st.sampled_from(ANONYMOUS)),
)
seconds = st.integers(0, 5)
traits = st.dictionaries(st.sampled_from(["plan", "city"]), st.sampled_from(["x", "y", None]), max_size=2)


@st.composite
def calls(draw: Any) -> list[Event]:
    made: list[Event] = []
    for n in range(draw(st.integers(1, 12))):
        at = f"2026-11-20T10:00:0{draw(seconds)}Z"
        kind = draw(st.sampled_from(["track", "identify", "alias", "alias", "consent", "group"]))
        user, anonymous = draw(who)
        if kind == "alias":
            user = user or draw(st.sampled_from(USERS))
            previous = draw(st.sampled_from((*USERS, *ANONYMOUS)))
            made.append(event("alias", f"m{n}", user, anonymous, at, previous_id=previous))
        elif kind == "identify":
            made.append(event("identify", f"m{n}", user, anonymous, at, traits=draw(traits)))
        elif kind == "group":
            made.append(event("group", f"m{n}", user, anonymous, at, group_id=draw(st.sampled_from(["g1", "g2"]))))
        elif kind == "consent":
            said = {"channel": "email", "topic": "offers", "state": draw(st.sampled_from(["granted", "denied"]))}
            made.append(event("track", f"m{n}", user, anonymous, at, event="Consent Changed", properties=said))
        else:
            made.append(event("track", f"m{n}", user, anonymous, at, event=draw(st.sampled_from(["A", "B"]))))
    return made


class Recount:
    """The naive oracle: components of identifiers by union-find, profiles by sorting all events."""

    def __init__(self, events: list[Event]):
        self.events = events
        self.up: dict[str, str] = {}
        self.kind: dict[str, str] = {}
        for e in events:
            self.kind[e.sender] = "user_id" if e.user_id else "anonymous_id"
            linked = [aid(e.anonymous_id)] if e.user_id and e.anonymous_id else []
            if e.previous_id:
                linked += [aid(e.previous_id), uid(e.previous_id)]
            self.find(e.sender)
            for other in linked:
                self.up[self.find(other)] = self.find(e.sender)

    def find(self, x: str) -> str:
        while self.up.setdefault(x, x) != x:
            x = self.up[x]
        return x

    def winner(self, sender: str) -> str:
        best = sender
        for other, kind in self.kind.items():
            if self.find(other) == self.find(sender) and beats(other, kind, best, self.kind[best]):
                best = other
        return best

    def profile(self, sender: str) -> dict[str, Any]:
        mine = [(n, e) for n, e in enumerate(self.events) if self.find(e.sender) == self.find(sender)]
        out: dict[str, Any] = {"events": 0, "counts": {}, "traits": {}, "consent": None}
        best: dict[str, tuple[str, str]] = {}
        said: tuple[str, bool, str] | None = None
        for _, e in mine:
            if e.type == "track":
                out["events"] += 1
                out["counts"][e.event] = out["counts"].get(e.event, 0) + 1
            if e.type == "identify":
                for name, value in json.loads(bytes(e.traits)).items():
                    best[name] = max(best.get(name, ("", "")), (e.timestamp, json.dumps(value)))
            if e.event == "Consent Changed":
                state = "denied" if b"denied" in bytes(e.properties) else "granted"
                mine_said = (e.timestamp, state == "denied", e.message_id)
                said = mine_said if said is None else max(said, mine_said)
        out["traits"] = {name: v.strip('"') for name, (_, v) in best.items() if v != "null"}
        out["consent"] = said and ("denied" if said[1] else "granted", said[2])
        out["users"] = {e.user_id for _, e in mine if e.user_id}
        out["anonymous"] = {e.anonymous_id for _, e in mine if e.anonymous_id}
        out["groups"] = {e.group_id for _, e in mine if e.group_id}
        out["first"] = min(e.timestamp for _, e in mine)
        out["last"] = max(e.timestamp for _, e in mine)
        out["created"] = iso(T0 + min(n for n, _ in mine))
        out["updated"] = iso(T0 + max(n for n, _ in mine))
        return out


def shown(profile: dict[str, Any]) -> dict[str, Any]:
    consents = profile.get("consents", [])
    return {
        "events": profile.get("events", 0),
        "counts": profile.get("event_counts", {}),
        "traits": profile.get("traits", {}),
        "consent": (consents[0]["state"], consents[0]["event_id"]) if consents else None,
        "users": set(profile.get("user_ids", [])),
        "anonymous": set(profile.get("anonymous_ids", [])),
        "groups": set(profile.get("groups", [])),
        "first": profile["first_seen"],
        "last": profile["last_seen"],
        "created": profile["created_at"],
        "updated": profile["updated_at"],
    }


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(calls(), st.integers(0, 2**32))
def test_any_order_of_delivery_ends_the_same(events: list[Event], order: int) -> None:
    chance = random.Random(order)
    world = World()
    queues: dict[str, list[tuple[int, Event]]] = {}
    for n, e in enumerate(events):
        queues.setdefault(e.sender, []).append((n, e))
    waiting: list[Any] = []
    while queues or waiting:
        if queues and (not waiting or chance.random() < 0.4):
            sender = chance.choice(sorted(queues))
            n, e = queues[sender][0] if chance.random() < 0.2 else queues[sender].pop(0)  # some come twice
            if not queues[sender]:
                del queues[sender]
            world.send(e, pump=False, time=T0 + n)
        else:
            m = waiting[chance.randrange(len(waiting))]
            again = m.type in ("profiles.link", "profiles.merge", "profiles.absorb") and chance.random() < 0.2
            if not again:
                waiting.remove(m)
            world.driver.feed_emitted([m])
        waiting.extend(world.internal())
    assert world.driver.dead == []
    recount = Recount(events)
    for sender in recount.kind:
        winner = recount.winner(sender)
        assert world.resolve(sender) == winner
        assert shown(world.profile(winner)) == recount.profile(sender)
        member = world.member(sender)
        if member is not None and sender != winner:
            assert member.merged_into == winner, "pointers end at the final winner"
            assert member.absorbed == {}
