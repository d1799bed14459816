"""The second compiler against the oracle: one query of the real engine says what looking at every fact says."""

import copy
import math
import random
import uuid

import msgspec
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.records import Contact, MemberEvent, Suppression
from services.segmentation import rules as r
from services.segmentation.parse import parse
from services.segmentation.sql import question, terms
from services.segmentation.sql.question import Standing, TooMuch, ask
from tests.support import segment_oracle as oracle
from tests.support.segment_oracle import Person
from tests.support.segment_strategies import LEAVES, START, instants, people, rules
from tests.support.segment_warehouse import Warehouse, address_id, facts_of, member_id

NOW = START + 10**12


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    made = Warehouse(str(tmp_path_factory.mktemp("warehouse")))
    yield made
    made.close()


class Community:
    """Members of a workspace of their own in the warehouse. Every fifth is merged into the one before,
    every third has no user id."""

    def __init__(self, warehouse: Warehouse, found: list[Person]):
        self.workspace = f"w{uuid.uuid4().hex[:12]}"
        self.seeded = 0
        self.warehouse = warehouse
        self.members: dict[str, tuple[Person, str | None]] = {}
        records = []
        for n, person in enumerate(found):
            person.member_id = member_id(n)
            user_id = None if n % 3 == 0 else f"u{n}"
            winner = member_id(n - 1) if n % 5 == 4 else ""
            records += facts_of(self.workspace, person, user_id, winner)
            if winner:
                absorb(self.members[winner][0], person)
            else:
                self.members[person.member_id] = (copy.deepcopy(person), user_id)
        warehouse.feed(records)
        (row,) = warehouse.rows(question.standing(), {"w": self.workspace})
        gone, merged, chained = map(int, row)
        self.standing = Standing(gone, question.MOST_HOPS if chained else min(merged, 1))

    def check(self, rule: dict, at: int, segments: dict | None = None) -> None:
        """The warehouse's answer is the one of the oracle, for the rule and for each leaf."""
        node, mistakes = parse(rule)
        assert not mistakes
        nested = {id: parse(body)[0] for id, body in (segments or {}).items()}
        asked = ask(node, nested.get, self.workspace, at, 3, self.standing, past=at < NOW)
        (row,) = self.warehouse.rows(asked.sql, asked.parameters)
        count, anonymous, samples, doubt, *leaves = row
        holders = [m for m, (p, _) in sorted(self.members.items()) if oracle.holds(rule, p, at, segments)]
        assert int(count) == len(holders), (rule, at, holders, self.seeded)
        assert int(anonymous) == sum(self.members[m][1] is None for m in holders)
        assert [str(uuid.UUID(int=int(m))) for m in samples] == holders[:3]
        assert int(doubt) == 0
        parts = {leaf.pointer: leaf_of(rule, leaf.pointer) for leaf in r.leaves(node)}
        wanted = [sum(oracle.holds(leaf, p, at, segments) for p, _ in self.members.values()) for leaf in parts.values()]
        assert list(map(int, leaves)) == wanted, (rule, at, self.seeded)
        assert list(asked.pointers) == list(parts)


def absorb(winner: Person, loser: Person) -> None:
    own = {t[:2] for t in winner.traits}
    winner.events += loser.events
    winner.traits += [t for t in loser.traits if t[:2] not in own]
    winner.consents += loser.consents
    winner.messages += loser.messages


def leaf_of(rule: dict, pointer: str) -> dict:
    for step in pointer.split("/")[1:]:
        rule = rule[int(step)] if isinstance(rule, list) else rule[step]
    return rule


def drawn(strategy, count: int, seeded: int) -> list:
    """Values of a strategy, drawn once and cheaply: each is used in many questions."""
    found: list = []

    @seed(seeded)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate])
    @given(strategy)
    def take(value):
        found.append(value)

    take()
    return found


@pytest.fixture(scope="module")
def community(warehouse):
    seeded = random.SystemRandom().randrange(2**32)
    made = Community(warehouse, drawn(people(), 40, seeded))
    made.seeded = seeded
    return made


@pytest.mark.parametrize("kind", sorted(LEAVES))
def test_a_leaf_counts_whom_the_oracle_counts(community, kind):
    count = 30 if kind in ("event", "trait") else 12
    for rule, at in drawn(st.tuples(LEAVES[kind], instants), count, community.seeded):
        community.check(rule, at)


def test_a_rule_counts_whom_the_oracle_counts(community):
    for rule, inner, at in drawn(st.tuples(rules, rules, instants), 40, community.seeded):
        community.check(rule, at)
        nested = {"and": [{"or": [{"segment": {"id": "inner"}}, {"segment": {"id": "none"}}]}, rule]}
        community.check(nested, at, {"inner": inner})


def test_members_of_members_that_were_merged_away_count_for_the_last(warehouse):
    found = [Person() for _ in range(3)]
    for n, person in enumerate(found):
        person.events = [(START + n, "Bought", {"total": 10})]
        person.traits = [(START, "plan", f"of {n}")]
    w = f"w{uuid.uuid4().hex[:12]}"
    records = []
    for n, person in enumerate(found):
        person.member_id = member_id(n)
        records += facts_of(w, person, "u", member_id(n + 1) if n < 2 else "")
    warehouse.feed(records)
    ((gone, merged, chained),) = warehouse.rows(question.standing(), {"w": w})
    assert list(map(int, (gone, merged, chained))) == [2, 2, 1]
    for leaf, holders in (
        ({"event": {"name": "Bought", "measure": "sum", "property": "total", "operator": "eq", "value": 30}}, 1),
        ({"trait": {"field": "plan", "operator": "eq", "value": "of 2"}}, 1),
        ({"trait": {"field": "plan", "operator": "eq", "value": "of 0"}}, 0),
    ):
        asked = ask(parse(leaf)[0], {}.get, w, NOW, 1, Standing(2, question.MOST_HOPS), past=False)
        ((count, *_),) = warehouse.rows(asked.sql, asked.parameters)
        assert int(count) == holders, leaf


NASTY = ("it's", "a`b", "back\\slash", "{p0:String}", 'quo"te', "x y", "; DROP TABLE rondo.facts", "\\`", "é", "tab\t")


def test_names_and_values_are_only_ever_data(warehouse):
    """Names of traits and events, and values, of any text: found as they are, and nothing else happens."""
    w = f"w{uuid.uuid4().hex[:12]}"
    records = []
    for n, text in enumerate(NASTY):
        person = Person(member_id(n))
        person.events = [(START, text, {text: text})]
        person.traits = [(START, text, text)]
        records += facts_of(w, person, None)
    warehouse.feed(records)
    for text in NASTY:
        where = [{"property": text, "operator": "eq", "value": text}]
        rule = {
            "and": [
                {"trait": {"field": text, "operator": "in", "value": [text, "other"]}},
                {"event": {"name": text, "where": where}},
                {"not": {"trait": {"field": text, "operator": "ne", "value": text}}},
            ]
        }
        asked = ask(parse(rule)[0], {}.get, w, NOW, 1, Standing(), past=False)
        ((count, *_),) = warehouse.rows(asked.sql, asked.parameters)
        assert int(count) == 1, text
    ((left,),) = warehouse.rows("SELECT count() > 0 FROM rondo.facts", {})
    assert left


def test_a_suppression_of_one_address_holds_for_that_address(warehouse):
    w = f"w{uuid.uuid4().hex[:12]}"
    records = []
    for n, (now, held) in enumerate([("a@x.de", "A@x.de"), ("b@x.de", "old@x.de"), ("c@x.de", None)]):
        id = member_id(n)
        traits = {"email": msgspec.Raw(msgspec.json.encode(now))}
        records.append((topics.MEMBER_EVENTS, MemberEvent(w, id, "member.updated", f"i{n}", iso(START), traits=traits)))
        holds = [Suppression("email", "bounce", iso(START), address_id("email", held))] if held else []
        records.append((topics.CONTACTS, Contact(w, id, f"u{n}", email=now, suppressions=holds)))
    warehouse.feed(records)
    rule = parse({"reachable": {"channel": "email"}})[0]
    now = ask(rule, {}.get, w, NOW, 5, Standing(), past=False)
    ((count, _, samples, doubt, _),) = warehouse.rows(now.sql, now.parameters)
    assert (int(count), int(doubt)) == (2, 0)
    assert [str(uuid.UUID(int=int(m))) for m in samples] == sorted(map(member_id, (1, 2)))
    # before the address was stated nobody can tell whether the one of then is suppressed
    before = ask(rule, {}.get, w, START - 1, 5, Standing(), past=True)
    ((count, _, _, doubt, _),) = warehouse.rows(before.sql, before.parameters)
    assert (int(count), int(doubt)) == (0, 0)  # the suppressions are younger still
    held_since = ask(rule, {}.get, w, START, 5, Standing(), past=True)
    ((count, _, _, doubt, _),) = warehouse.rows(held_since.sql, held_since.parameters)
    assert (int(count), int(doubt)) == (2, 0)


@given(
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from((0.1, 1.0, 0.3, -0.0, 2, 10**16))), st.lists(st.floats(-1e3, 1e3))
)
def test_an_exact_sum_passes_where_the_rounded_one_does(wanted, amounts):
    """The bounds in units of 2^-64 against fsum, for amounts of whole units."""
    units = [round(a * 65536) << 48 for a in amounts]
    total = math.fsum(u / 2**64 for u in units)
    for operator, holds in (("gte", total >= wanted), ("gt", total > wanted), ("eq", total == wanted)):
        p = terms.Parameters()
        sql = terms.sums(r.Test(operator, wanted), "units", p)
        for name, value in p.values.items():
            sql = sql.replace(f"{{{name}:Int128}}", str(value))
        assert eval(sql.replace(" = ", " == ").replace("AND", "and"), {"units": sum(units)}) == holds


def test_what_is_too_much_for_one_question_is_refused():
    leaves = [{"event": {"name": f"E{n}"}} for n in range(question.MOST_ATOMS + 1)]
    with pytest.raises(TooMuch):
        ask(parse({"or": leaves})[0], {}.get, "w", NOW, 1, Standing(), past=False)
