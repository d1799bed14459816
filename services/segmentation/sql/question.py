"""A rule as one query: how many members hold it, who is anonymous, samples, and the count of each leaf. Pure.

    question = ask(rule, lookup, "demo", at=ms, samples=10, standing=Standing(...), past=False)
    (row,) = warehouse.rows(question.sql, question.parameters)

How it works: each source (facts, messages, suppressions) is aggregated by member into bits, one an atom,
set where the answer is not the one of a member without any rows there. Members without a set bit are not
in what follows: their answers are known here already. Only where the rule may hold for them too, all members
are read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.segmentation import rules as r
from services.segmentation.sql import atoms
from services.segmentation.sql.atoms import SENT, Atom
from services.segmentation.sql.terms import Parameters

MOST_ATOMS = 64
"""Atoms of one question: bits of a UInt64."""
DATABASE = "rondo"

Lookup = Callable[[str], r.Node | None]
"""The rule of another segment; None when there is none (it then holds nobody)."""


class TooMuch(Exception):
    """The rule asks for more than one query can answer."""


@dataclass(frozen=True)
class Standing:
    """What a workspace's members are like: how many are gone (merged away, erased), and over how many
    hops a merged-away member's facts reach the one that stands for it (0: there are none)."""

    gone: int = 0
    hops: int = 0


@dataclass(frozen=True)
class Question:
    """`sql` answers one row: count, anonymous, samples (member ids as numbers, smallest first), doubt
    (members of whom the answer is not sure), then a count for each of `pointers`."""

    sql: str
    parameters: dict[str, Any]
    pointers: tuple[str, ...]
    sources: frozenset[str]
    """What it reads beside `people`: facts, actions of messages."""


def standing() -> str:
    """SQL for (members gone, merged away, merged away into one that is gone too) of workspace {w:String}."""
    pairs = (
        f"SELECT m, argMax(`into`, _offset) AS target FROM {DATABASE}.people {_WHERE} AND status = 'gone' GROUP BY m"
    )
    return (
        f"WITH pairs AS ({pairs}) "
        "SELECT count(), countIf(target != 0), countIf(target IN (SELECT m FROM pairs WHERE target != 0)) FROM pairs"
    )


_WHERE = "WHERE workspace = {w:String}"
_ACTOR = "id, if(actor = '', 'human', actor) AS actor"
"""Records leave out what is the default."""
NAMES = f"SELECT m, argMax(user_id, _offset) FROM {DATABASE}.people {_WHERE} AND m IN {{m:Array(UInt128)}} GROUP BY m"
"""User ids of some members."""
MOST_HOPS = 8
"""Merges of merged members followed; profiles makes pointers one hop long in the end."""


def ask(rule: r.Node, lookup: Lookup, workspace: str, at: int, samples: int, members: Standing, past: bool) -> Question:
    """The question of a rule at `at` (ms). `past`: that is not now, so an address may have been another one.
    TooMuch for a rule of too many parts."""
    return _Asking(lookup, at, members, past).question(rule, workspace, samples)


@dataclass
class _Asking:
    lookup: Lookup
    at: int
    members: Standing
    past: bool
    p: Parameters = field(default_factory=Parameters)
    atoms: list[Atom] = field(default_factory=list)
    known: dict[Any, tuple[str, bool]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    # the rule over bits

    def _bit(self, atom: Atom) -> tuple[str, bool]:
        """(expression over the bits `t`, answer of nothing)."""
        if len(self.atoms) >= MOST_ATOMS:
            raise TooMuch(f"more than {MOST_ATOMS} facts to look at")
        self.atoms.append(atom)
        bit = f"bitTest(t, {len(self.atoms) - 1})"
        return (f"NOT {bit}" if atom.nothing else bit), atom.nothing

    def _node(self, node: r.Node) -> tuple[str, bool]:
        match node:
            case r.And(parts=parts):
                found = [self._node(part) for part in parts]
                return "(" + " AND ".join(e for e, _ in found) + ")", all(n for _, n in found)
            case r.Or(parts=parts):
                found = [self._node(part) for part in parts]
                return "(" + " OR ".join(e for e, _ in found) + ")", any(n for _, n in found)
            case r.Not(part=part):
                expression, nothing = self._node(part)
                return f"(NOT {expression})", not nothing
            case r.Segment(id=id):
                nested = self.lookup(id)
                return ("0", False) if nested is None else self._node(nested)
        key = type(node), *(getattr(node, f) for f in node.__struct_fields__ if f != "pointer")
        if key not in self.known:
            self.known[key] = self._leaf(node)
        return self.known[key]

    def _leaf(self, node: r.Node) -> tuple[str, bool]:
        at, p = self.at, self.p
        match node:
            case r.Event():
                return self._bit(atoms.event(node, at, p))
            case r.Message():
                if node.action in SENT and node.actor is not None:
                    node = r.Message(**{**_fields(node), "window": r.Window(start=0, end=0)})  # nobody acts by sending
                return self._bit(atoms.message(node, at, p))
            case r.Trait():
                return self._bit(atoms.trait(node, at, p))
            case r.Consent():
                return self._bit(atoms.consent(node, at, p))
            case r.Bucket():
                return self._bit(atoms.bucket(node, p))
            case r.Reachable(channel=channel):
                good, _ = self._bit(atoms.address(channel, at, p))
                held = self._held(channel, specific=False)
                if self.past:
                    moved, _ = self._bit(atoms.moved(channel, at, p))
                    self.doubts.append(f"({moved} AND {self._held(channel, specific=True)})")
                return f"({good} AND NOT {held})", False
        raise TypeError(f"not a part of a rule: {type(node).__name__}")

    def _held(self, channel: str, specific: bool) -> str:
        """Whether a member's address is suppressed: few are, so this is a set, not a bit of everybody."""
        some = f"SELECT m FROM {DATABASE}.people {_WHERE} AND notEmpty(holds)"
        held = f"SELECT m, argMax(holds, _offset) AS held FROM {DATABASE}.people {_WHERE} AND m IN ({some}) GROUP BY m"
        return f"m IN (SELECT m FROM ({held}) WHERE {atoms.held(channel, self.at, self.p, specific)})"

    # the query

    def question(self, rule: r.Node, workspace: str, samples: int) -> Question:
        holds, of_nobody = self._node(rule)
        leaves = [(leaf.pointer, *self._node(leaf)) for leaf in r.leaves(rule)]
        gone = f"SELECT m FROM {DATABASE}.people {_WHERE} AND status = 'gone'"
        alive = f"m NOT IN ({gone})" if self.members.gone else "1"
        once = f"SELECT m FROM {DATABASE}.people {_WHERE} AND status = 'anonymous'"
        anonymous = (
            f"{once} AND m NOT IN (SELECT m FROM {DATABASE}.people {_WHERE} AND status = 'known' AND m IN ({once}))"
        )
        counts = []
        for _, expression, nothing in leaves:
            rest = f" + ({self._all(alive)}) - count()" if nothing and not of_nobody else ""
            counts.append(f"countIf({expression}){rest}")
        doubt = f"countIf({' OR '.join(self.doubts)})" if self.doubts else "0"
        found = f"groupArraySortedIf({samples:d})(m, holds)" if samples else "[]::Array(UInt128)"
        sql = (
            f"SELECT countIf(holds), countIf(holds AND m IN ({anonymous})), {found}, {doubt}"
            f"{''.join(', ' + c for c in counts)} "
            f"FROM (SELECT m, t, {holds} AS holds FROM ({self._members(of_nobody)}) WHERE {alive})"
        )
        parameters = {"w": workspace, **self.p.values}
        sources = frozenset(atom.source for atom in self.atoms)
        return Question(sql, parameters, tuple(pointer for pointer, _, _ in leaves), sources)

    def _all(self, alive: str) -> str:
        return f"SELECT uniqExact(m) FROM {DATABASE}.people {_WHERE} AND status != 'gone' AND {alive}"

    def _members(self, everybody: bool) -> str:
        """Members and their bits, each once."""
        sources: dict[str, list[int]] = {}
        for i, atom in enumerate(self.atoms):
            sources.setdefault(atom.source, []).append(i)
        if everybody:
            sources.setdefault("bucket", [])
        queries = [self._source(name, numbers, everybody) for name, numbers in sources.items()]
        if not queries:
            return "SELECT toUInt128(0) AS m, toUInt64(0) AS t WHERE 0"
        if len(queries) == 1:
            return queries[0]
        return f"SELECT m, groupBitOr(t) AS t FROM ({' UNION ALL '.join(queries)}) GROUP BY m"

    def _source(self, name: str, numbers: list[int], everybody: bool) -> str:
        found = [self.atoms[i] for i in numbers]
        bits = [
            f"bitShiftLeft(toUInt64({f'NOT ({a.truth})' if a.nothing else a.truth}), {i})"
            for i, a in zip(numbers, found, strict=True)
        ]
        t = " + ".join(bits) or "toUInt64(0)"
        if name == "bucket":
            some = "" if everybody else " AND (" + " OR ".join(a.truth for a in found) + ")"
            people = f"SELECT m FROM {DATABASE}.people {_WHERE} AND status != 'gone'{some} GROUP BY m"
            return f"SELECT m, {t} AS t FROM ({people})"
        rows = " OR ".join(f"({a.rows})" for a in found)
        if name == "facts":
            return self._facts(rows, t)
        return f"SELECT m, {t} AS t FROM ({self._messages(name)}) WHERE {rows} GROUP BY m HAVING t != 0"

    def _facts(self, rows: str, t: str) -> str:
        if not self.members.hops:
            return f"WITH ord AS place SELECT m, {t} AS t FROM {DATABASE}.facts {_WHERE} AND ({rows}) GROUP BY m HAVING t != 0"
        # at one instant a member's own trait stands before one that came with a merge
        place = "if(target = 0, ord, ord - 9223372036854775808) AS place"
        return (
            f"WITH {place} SELECT if(target = 0, facts.m, target) AS m, {t} AS t FROM {DATABASE}.facts AS facts "
            f"LEFT ANY JOIN ({self._targets()}) AS merged ON facts.m = merged.loser "
            f"{_WHERE} AND ({rows}) GROUP BY m HAVING t != 0"
        )

    def _messages(self, action: str) -> str:
        """Messages of an action, once each: those that happen once a touch at their earliest."""
        if action in SENT:
            table, kind, once = "deliveries", f"status = '{SENT[action]}'", "touch_id"
            columns = "min(sent_at) AS at, argMin(campaign, sent_at) AS campaign, '' AS actor"
        else:
            table, kind, once = "engagement", f"kind = '{action}'", "sent_at, id"
            columns = "sent_at AS at, any(campaign) AS campaign, any(actor) AS actor"
        member = "toUInt128(toUUIDOrZero(member_id))"
        read = (
            f"SELECT {member} AS own, campaign, {'touch_id' if action in SENT else _ACTOR}, "
            f"toUnixTimestamp64Milli(at) AS sent_at FROM {DATABASE}.{table} {_WHERE} AND {kind}"
        )
        if not self.members.hops:
            return f"SELECT own AS m, {columns} FROM ({read}) WHERE own != 0 GROUP BY own, {once}"
        return (
            f"SELECT if(target = 0, own, target) AS m, {columns} FROM ({read}) AS read "
            f"LEFT ANY JOIN ({self._targets()}) AS merged ON read.own = merged.loser WHERE own != 0 GROUP BY m, {once}"
        )

    def _targets(self) -> str:
        """Merged-away members and who stands for them."""
        sql = (
            f"SELECT m AS loser, argMax(`into`, _offset) AS target FROM {DATABASE}.people {_WHERE} "
            "AND status = 'gone' AND `into` != 0 GROUP BY m"
        )
        pairs = sql
        for _ in range(1, self.members.hops):
            sql = (
                "SELECT a.loser AS loser, if(b.target = 0, a.target, b.target) AS target "
                f"FROM ({sql}) AS a LEFT ANY JOIN ({pairs}) AS b ON a.target = b.loser"
            )
        return sql


def _fields(node: Any) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node.__struct_fields__}
