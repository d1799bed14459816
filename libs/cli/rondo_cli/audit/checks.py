"""The comparison: questions to a sealed ledger. Pure (nothing is read but the ledger).

What is missing is a hole only when nothing explains it: a repeat of a call that was applied, a dead
letter, an input that its consumer has not committed yet, a touch that waits on the agenda, a send that
waits in delivery. Everything else named here is a finding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rondo_cli.audit.facts import LOUD
from rondo_cli.audit.ledger import Ledger
from rondo_common.catalogue import TOPICS

DEDUPE_MS = 7 * 86_400_000
"""How long profiles remembers a message id: the evidence of calls that change nothing."""
PROFILES, RHYTHM = "rondo.profiles", "rondo.rhythm"


@dataclass(frozen=True)
class Finding:
    """Something that must not be. `check` is its kind; the place is that of the record it is about (no
    place: of none)."""

    check: str
    id: str
    detail: str
    topic: str = ""
    partition: int = -1
    offset: int = -1


@dataclass(frozen=True)
class Count:
    """A figure of the report."""

    name: str
    count: int
    about: str


_FIRST = """
SELECT workspace, sender, id, type, mark_key, mark, topic, partition, min(at_offset) AS at_offset, time
FROM event GROUP BY workspace, sender, id"""
"""The first of all calls with a message id and sender: the one that counts."""
_WAITING = """
NOT EXISTS (SELECT 1 FROM committed c WHERE c.grp = {group} AND c.topic = {a}.topic AND c.partition = {a}.partition
            AND c.at_offset > {a}.at_offset)"""
_DEAD = """
EXISTS (SELECT 1 FROM dead d WHERE d.source = {a}.topic AND d.source_partition = {a}.partition
        AND d.source_offset = {a}.at_offset)"""


def _waiting(group: str, a: str) -> str:
    return _WAITING.format(group=group, a=a)


def _dead(a: str) -> str:
    return _DEAD.format(a=a)


def counts(ledger: Ledger, accepted: bool) -> list[Count]:
    """What was seen."""
    ask = ledger.one
    found = [Count("accepted", ask("SELECT count(*) FROM accepted"), "ids of the given file")] if accepted else []
    logged = ask("SELECT count(*) FROM event")
    distinct = ask(f"SELECT count(*) FROM ({_FIRST})")
    effects = ask(f"SELECT count(*) FROM effect WHERE kind IN ({_marks(LOUD)})", *LOUD)
    return [
        *found,
        Count("logged", logged, "events in the log"),
        Count("called again", logged - distinct, "of them repeats of a call (same message id and sender)"),
        Count("refused", ask("SELECT count(*) FROM rejected"), "events the door filed as refused"),
        Count("applied", effects, "member events of track, page, screen and group calls"),
        Count("touches", ask("SELECT count(*) FROM touch"), "intended messages"),
        Count("decisions", ask("SELECT count(*) FROM decision"), "verdicts on them"),
        Count("sends", ask("SELECT count(*) FROM send"), "let through"),
        Count("answered", ask("SELECT count(DISTINCT touch_id || ':' || attempt) FROM delivery"), "sends with an end"),
        Count("dead letters", ask("SELECT count(*) FROM dead"), "records given up, see rondo dlq"),
    ]


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))


def findings(ledger: Ledger, end: int, start: int = 0) -> Iterator[Finding]:
    """Every hole and repeat. `end` (ms) is when the log was read, `start` where the range begins."""
    yield from _accepted(ledger)
    yield from _applied(ledger, end, start)
    yield from _repeated_effects(ledger)
    yield from _messages(ledger)
    for detail, topic, partition, offset, _ in ledger.each("SELECT * FROM unreadable"):
        yield Finding("unreadable", "", detail, topic, partition, offset)


def waiting(ledger: Ledger) -> list[Count]:
    """What is under way, by stage: no findings."""
    events = ledger.one(f"SELECT count(*) FROM ({_FIRST}) e WHERE {_waiting('?', 'e')}", PROFILES)
    touches = ledger.one(f"SELECT count(*) FROM touch t WHERE {_undecided()} AND ({_touch_waits()})", RHYTHM)
    sends = ledger.one(f"SELECT count(*) FROM send s WHERE {_unanswered()} AND ({_send_waits()})")
    return [
        Count("events", events, "not read by profiles yet"),
        Count("touches", touches, "not decided yet, or parked on an agenda"),
        Count("sends", sends, "not answered yet, held or being looked up"),
    ]


def _accepted(ledger: Ledger) -> Iterator[Finding]:
    question = """
        SELECT DISTINCT a.id FROM accepted a WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.id = a.id)
        AND NOT EXISTS (SELECT 1 FROM rejected r WHERE r.id = a.id)"""
    for (id,) in ledger.each(question):
        yield Finding("accepted_not_logged", id, "answered with success and neither logged nor filed as refused")


def _applied(ledger: Ledger, end: int, start: int) -> Iterator[Finding]:
    """Loud calls need their member event, the others a mark. Senders that share a message id need one
    member event each. What was marked before the range began is a repeat of an earlier call."""
    loud = f"""
        SELECT e.workspace, e.id, e.type, e.topic, e.partition, e.at_offset FROM ({_FIRST}) e
        WHERE e.type IN ({_marks(LOUD)}) AND NOT ({_dead("e")}) AND NOT ({_waiting("?", "e")})
        AND (SELECT count(DISTINCT effect_id) FROM effect x WHERE x.id = e.id AND x.workspace = e.workspace
             AND x.kind = e.type)
          < (SELECT count(DISTINCT sender) FROM event o WHERE o.id = e.id AND o.workspace = e.workspace
             AND o.type = e.type)
        AND NOT EXISTS (SELECT 1 FROM mark_seen m WHERE m.mark_key = e.mark_key AND m.mark = e.mark
                        AND (m.since + 1) * 1000 <= ?)
        AND NOT EXISTS (SELECT 1 FROM routed r WHERE r.id = e.id AND r.workspace = e.workspace
                        AND (({_dead("r")}) OR ({_waiting("?", "r")})))"""
    for _, id, kind, topic, partition, offset in ledger.each(loud, *LOUD, PROFILES, start, PROFILES):
        yield Finding("logged_not_applied", id, f"no member event of this {kind} call", topic, partition, offset)
    silent = f"""
        SELECT e.id, e.type, e.topic, e.partition, e.at_offset FROM ({_FIRST}) e
        WHERE e.type NOT IN ({_marks(LOUD)}) AND e.time > ? AND NOT ({_dead("e")}) AND NOT ({_waiting("?", "e")})
        AND NOT EXISTS (SELECT 1 FROM mark_seen m WHERE m.mark_key = e.mark_key AND m.mark = e.mark)
        AND NOT EXISTS (SELECT 1 FROM effect x WHERE x.id = e.id AND x.workspace = e.workspace)"""
    for id, kind, topic, partition, offset in ledger.each(silent, *LOUD, end - DEDUPE_MS, PROFILES):
        detail = f"no mark and no member event of this {kind} call"
        yield Finding("logged_not_applied", id, detail, topic, partition, offset)


def _repeated_effects(ledger: Ledger) -> Iterator[Finding]:
    same = """
        SELECT x.effect_id, x.kind, x.topic, x.partition, x.at_offset FROM effect x JOIN
        (SELECT effect_id, min(at_offset) AS first, partition FROM effect GROUP BY effect_id HAVING count(*) > 1) r
        ON r.effect_id = x.effect_id WHERE x.at_offset > r.first OR x.partition <> r.partition"""
    for id, kind, topic, partition, offset in ledger.each(same):
        yield Finding("effect_repeated", id, f"the member event {kind} was written before", topic, partition, offset)
    more = f"""
        SELECT x.id, x.kind, x.topic, x.partition, max(x.at_offset), count(DISTINCT effect_id) FROM effect x
        WHERE x.kind IN ({_marks(LOUD)}) AND x.id IS NOT NULL GROUP BY x.workspace, x.id, x.kind
        HAVING count(DISTINCT effect_id) > (SELECT count(DISTINCT sender) FROM event o WHERE o.id = x.id
               AND o.workspace = x.workspace AND o.type = x.kind)
        AND (SELECT max(time) - min(time) FROM event o WHERE o.id = x.id AND o.workspace = x.workspace) < ?"""
    # a message id that comes again when it is forgotten is a new call
    for id, kind, topic, partition, offset, number in ledger.each(more, *LOUD, DEDUPE_MS):
        yield Finding("applied_twice", id, f"{number} member events of one {kind} call", topic, partition, offset)


def _undecided() -> str:
    return "NOT EXISTS (SELECT 1 FROM decision d WHERE d.touch_id = t.touch_id)"


def _touch_waits() -> str:
    return f"({_waiting('?', 't')}) OR EXISTS (SELECT 1 FROM agenda a WHERE a.touch_id = t.touch_id)"


def _unanswered() -> str:
    """Delivery's own word about this attempt or a later one is missing."""
    return "NOT EXISTS (SELECT 1 FROM delivery v WHERE v.touch_id = s.touch_id AND v.attempt >= s.attempt)"


def _send_waits() -> str:
    """The channel's worker has not committed it, or keeps it in an open state."""
    group = "'rondo.delivery-' || substr(s.topic, 13, instr(substr(s.topic, 13), '.') - 1)"
    return f"({_waiting(group, 's')}) OR EXISTS (SELECT 1 FROM open_send o WHERE o.touch_id = s.touch_id)"


def _messages(ledger: Ledger) -> Iterator[Finding]:
    """Touches, decisions, sends, answers."""
    holes: list[tuple[str, str, str, tuple[Any, ...]]] = [
        ("touch_not_decided", "no decision on this touch",
         f"SELECT touch_id, topic, partition, at_offset FROM touch t WHERE {_undecided()} AND NOT ({_dead('t')}) "
         f"AND NOT ({_touch_waits()})", (RHYTHM,)),
        ("decision_not_sent", "decided to send, but nothing was handed to delivery",
         "SELECT touch_id, topic, partition, at_offset FROM decision t WHERE verdict = 'send' AND NOT EXISTS "
         "(SELECT 1 FROM send s WHERE s.touch_id = t.touch_id AND s.attempt = t.attempt)", ()),
        ("sent_undecided", "handed to delivery without a decision",
         "SELECT touch_id, topic, partition, at_offset FROM send t WHERE NOT EXISTS (SELECT 1 FROM decision d "
         "WHERE d.touch_id = t.touch_id AND d.attempt = t.attempt AND d.verdict = 'send')", ()),
        ("send_not_answered", "delivery never said what became of it",
         f"SELECT touch_id, topic, partition, at_offset FROM send s WHERE {_unanswered()} AND NOT ({_dead('s')}) "
         f"AND NOT ({_send_waits()})", ()),
    ]  # fmt: skip
    for check, detail, question, values in holes:
        for id, topic, partition, offset in ledger.each(question, *values):
            yield Finding(check, id, detail, topic, partition, offset)
    repeats = (
        ("decision_repeated", "decision", "touch_id, attempt", "1", "decided more than once in this attempt"),
        ("send_repeated", "send", "touch_id, attempt", "1", "handed to delivery more than once in this attempt"),
        ("accepted_twice", "delivery", "touch_id", "status = 'accepted'", "the provider took it more than once"),
    )
    for check, table, group, where, detail in repeats:
        question = f"""
            SELECT touch_id, topic, partition, max(at_offset), count(*) FROM {table} WHERE {where}
            GROUP BY {group} HAVING count(*) > 1"""
        for id, topic, partition, offset, number in ledger.each(question):
            yield Finding(check, id, f"{detail} ({number})", topic, partition, offset)


def offset_findings(
    committed: dict[tuple[str, str, int], int], first: dict[tuple[str, int], int], ends: dict[tuple[str, int], int]
) -> Iterator[Finding]:
    """Committed offsets beside what the log has: one before its beginning means that records were deleted
    unread, one behind its end that the log lost records."""
    for (group, topic, partition), at in sorted(committed.items()):
        begins, ends_at = first.get((topic, partition), 0), ends.get((topic, partition), 0)
        if at < begins and not topic.endswith(".dlq") and TOPICS[topic].cleanup == "delete":
            detail = f"{begins - at} records were deleted before {group} read them"
            yield Finding("deleted_unread", group, detail, topic, partition, at)
        if at > ends_at:
            detail = f"{group} has read {at - ends_at} records further than the log goes"
            yield Finding("beyond_the_log", group, detail, topic, partition, at)
