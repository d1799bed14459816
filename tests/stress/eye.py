"""The oracle: what was accepted, what is in the log, what came of it, and what the provider took.

The log is read with kafka-python (committed records only), profiles by gRPC, sends from the provider's own
file. Nothing is asked of the clients or the code under test.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from rondo_cli import broker
from rondo_common import ids
from rondo_protos.profiles.v1 import profiles_pb2, profiles_pb2_grpc
from tests.stress import load as loads
from tests.stress.lab import SETTINGS, World
from tests.stress.load import Load
from tests.stress.provider import faults, ledger
from tests.stress.registry import Outcome
from tests.support.spine_api import Api
from tests.support.spine_compare import DELIVERED

EVENTS, MEMBER_EVENTS = "rondo.events.v1", "rondo.member-events.v1"
MEMBERSHIPS, DECISIONS = "rondo.memberships.v1", "rondo.decisions.v1"
DELIVERIES = "rondo.deliveries.v1"
ALL = (EVENTS, MEMBER_EVENTS, MEMBERSHIPS, DECISIONS, DELIVERIES)
SHOWN = 3


@dataclass
class Seen:
    """Everything of one workspace. `logged` and `applied` by message id; `counts` by user and event name;
    `segments` by user; by touch id: `verdicts` (the last one), `outcomes`, `taken` (by the provider)."""

    logged: Counter[str] = field(default_factory=Counter)
    applied: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    segments: dict[str, set[str]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def let_through(self) -> set[str]:
        return {t for t, v in self.verdicts.items() if v["verdict"] == "send"}

    def with_outcome(self, outcome: str) -> set[str]:
        return {t for t, o in self.outcomes.items() if o == outcome}

    def sends(self, campaign: str) -> Counter[tuple[str, str]]:
        """Let-through touches by (member, channel)."""
        found = (v for v in self.verdicts.values() if v["verdict"] == "send" and v["campaign"] == campaign)
        return Counter((v["member_id"], v["channel"]) for v in found)

    @property
    def ambiguous(self) -> set[str]:
        """Touches of which the provider left a call without a clear answer."""
        return {c["touch"] for c in self.calls if c["fate"] in faults.AMBIGUOUS}


class Eye:
    """Looks at one workspace of a world, from the moment it was made; at further topics too, if `also`."""

    def __init__(self, world: World, api: Api, *also: str):
        self.world, self.api = world, api
        self._starts = world.ends(*ALL, *also)
        self._log = world.provider.mark()

    @property
    def prefix(self) -> bytes:
        return f"{self.api.workspace}:".encode()

    def records(self, *topics: str) -> Iterable[Any]:
        """The workspace's committed records since the beginning."""
        ends = self.world.ends(*topics)
        ranges = {tp: (self._starts.get(tp, 0), end) for tp, end in ends.items()}
        prefix = self.prefix
        return (r for r in broker.records(self.world.bootstrap, ranges) if r.key and r.key.startswith(prefix))

    def calls(self) -> list[dict[str, Any]]:
        """The provider's log since the beginning (of all workspaces that were at work meanwhile)."""
        return ledger.read(self.world.provider.log, self._log)

    def profiles(self) -> dict[str, dict[str, Any]]:
        """Every profile by member id."""
        found: dict[str, dict[str, Any]] = {}
        with grpc.insecure_channel(self.world.stack.grpc("profiles")) as channel:
            stub, cursor = profiles_pb2_grpc.ProfilesServiceStub(channel), ""
            while True:
                request = profiles_pb2.ListMembersRequest(workspace=self.api.workspace, cursor=cursor, limit=1000)
                page = stub.ListMembers(request, timeout=30)
                found.update((m.member_id, json.loads(m.profile_json)) for m in page.members)
                if not (cursor := page.next_cursor):
                    return found

    def look(self) -> Seen:
        """All of it, now; the workspace should be drained."""
        seen = Seen()
        users = {m: p.get("user_id") or m for m, p in self.profiles().items()}
        for r in self.records(*ALL):
            value = _read(r)
            match r.topic:
                case "rondo.events.v1" if value:
                    seen.logged[value["message_id"]] += 1
                case "rondo.member-events.v1" if value["kind"] == "track" and value["name"] in loads.COUNTED:
                    seen.applied[value["event_id"]] += 1
                case "rondo.memberships.v1":
                    member = r.key.decode().partition(":")[2]
                    user = users.get(member, member)
                    seen.segments[user] = set((value or {}).get("segments") or ())
                case "rondo.decisions.v1":
                    seen.verdicts[value["touch_id"]] = value
                case "rondo.deliveries.v1" if value["status"] in DELIVERED:
                    seen.outcomes[value["touch_id"]] = DELIVERED[value["status"]]
        for member, profile in self.profiles().items():
            by = profile.get("event_counts") or {}
            seen.counts[users[member]] = Counter({n: c for n, c in by.items() if n in loads.COUNTED})
        seen.calls = [c for c in self.calls() if c["touch"] in seen.verdicts]
        seen.taken = Counter(c["touch"] for c in seen.calls if c["taken"])
        return seen

    def member_of(self, user: str) -> str:
        """The member id of a user whose first identifier was the user id."""
        secret = ids.workspace_secret(SETTINGS["RONDO_SECRET"], self.api.workspace)
        return ids.identifier_id(secret, "user_id", user)


def _read(record: Any) -> Any:
    """Its JSON object. What a case has put beside the events on purpose is nothing."""
    try:
        value = json.loads(record.value) if record.value else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) and (record.topic != EVENTS or "message_id" in value) else None


def events(load: Load, seen: Seen) -> Outcome:
    """Accepted against logged against applied, and the numbers that must come out."""
    out = Outcome(load.total)
    accepted, counted = load.answers.accepted, load.counted()
    out.must(accepted == load.ids, f"{len(load.ids - accepted)} events were never accepted")
    missing = accepted - seen.logged.keys()
    unapplied = (seen.logged.keys() & counted) - seen.applied.keys()
    out.lost = len(missing) + len(unapplied)
    out.repeated = sum(n - 1 for n in seen.applied.values())
    if missing or unapplied:
        out.notes.append(f"not logged {some(missing)}; not applied {some(unapplied)}")
    wrong = [u for u, counts in load.counts.items() if seen.counts.get(u) != counts]
    out.must(not wrong, f"counts of {len(wrong)} profiles are wrong: {some(wrong)}")
    wanted = {p.user for p in load.people if p.buyer}
    found = {u for u, segments in seen.segments.items() if loads.BUYERS in segments}
    out.must(wanted == found, f"buyers: missing {some(wanted - found)}, too many {some(found - wanted)}")
    return out


def sends(seen: Seen, n: int = 0) -> Outcome:
    """What was let through against its outcome against what the provider took."""
    out = Outcome(n)
    through = seen.let_through
    sent, unknown, failed = (seen.with_outcome(o) for o in ("sent", "unknown", "failed"))
    open_ = through - sent - unknown - failed
    untrue = sent - seen.taken.keys()
    secret = seen.taken.keys() - sent - unknown
    out.lost = len(open_) + len(untrue)
    out.repeated = sum(n - 1 for n in seen.taken.values())
    out.unknown = len(unknown)
    if open_:
        out.notes.append(f"without an outcome {some(open_)}")
    if untrue:
        out.notes.append(f"said to be sent, not taken {some(untrue)}")
    twice = [t for t, n in seen.taken.items() if n > 1]
    if twice:
        out.notes.append(f"taken twice {some(twice)}: {[c for c in seen.calls if c['touch'] == twice[0]]}")
    out.must(not secret, f"taken by the provider, not said: {some(secret)}")
    return out


def due(load: Load, seen: Seen, eye: Eye, broadcast: bool, cart: bool = True) -> Outcome:
    """Whether exactly those were written to who were to be."""
    out = Outcome(0)
    wanted: Counter[tuple[str, str]] = Counter()
    if cart:
        wanted.update((eye.member_of(p.user), "email") for p in load.people if p.cart and p.mail)
        _same(out, "cart", wanted, seen.sends(loads.CARTS))
    if broadcast:
        buyers = [p for p in load.people if p.buyer]
        wanted = Counter((eye.member_of(p.user), c) for p in buyers for c in ("sms", "messaging"))
        wanted.update((eye.member_of(p.user), "email") for p in buyers if p.mail)
        _same(out, "spring", wanted, seen.sends(loads.SPRING))
    return out


def _same(out: Outcome, what: str, wanted: Mapping[Any, int], found: Mapping[Any, int]) -> None:
    missing, more = Counter(wanted) - Counter(found), Counter(found) - Counter(wanted)
    out.lost += missing.total()
    out.repeated += more.total()
    if missing or more:
        out.notes.append(f"{what}: not let through {some(missing)}, too many {some(more)}")


def some(found: Iterable[Any]) -> str:
    """A few of them, and how many."""
    listed = sorted(found, key=str)
    return f"{len(listed)} {listed[:SHOWN]}" if listed else "none"


def judge(
    load: Load, eye: Eye, broadcast: bool = False, cart: bool = True, bound: int = 0, failed: int = 0
) -> tuple[Outcome, Seen]:
    """All of it. `bound`: sends that may be unknown beside those the provider left in doubt; `failed`: how
    many may have been rejected."""
    seen = eye.look()
    out = events(load, seen)
    sent = sends(seen)
    sent.bound = bound + len(seen.ambiguous)
    out.add(sent)
    out.add(due(load, seen, eye, broadcast, cart))
    rejected = seen.with_outcome("failed")
    out.must(len(rejected) <= failed, f"{len(rejected)} sends were given up: {some(rejected)}")
    return out, seen
