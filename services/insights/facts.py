"""What audiences are asked of: `people`, one row a contact, and `facts`, one row a fact of a member. Pure.

    people   how a member stands: anonymous, known (has a user id), gone (merged away, erased), and which
             of its addresses are suppressed. Fed from rondo.contacts.v1 like any table.
    facts    what rules count: an event with its properties, traits that were stated, a consent. Made by
             the engine itself out of `member_events` (`derive`), in the order of the log and only
             behind it, so its position is its highest _offset too and an old folder fills by itself.

`m` is the member id as a number, which sorts as its text does. `what` names the fact: `e:Order
Completed`, `t` (traits), `c:email:offers`. Facts of one name lie together, sorted by member.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from rondo_common import topics
from rondo_common.clock import from_iso
from rondo_common.ids import identifier_id, normal_email, normal_phone
from rondo_common.records import Contact
from services.insights.rowbinary import int64, place, size, text, uint128
from services.insights.tables import ORIGIN, insert, quoted

BIAS = 1 << 50
"""Added to instants (ms) inside `ord`, so that those before 1970 are positive too."""
STEP = 100_000
"""Offsets of a partition that one `derive` takes: few enough that what it writes is one block."""
SETTINGS: Mapping[str, int] = {
    "input_format_try_infer_dates": 0,  # a text is a text
    "input_format_try_infer_datetimes": 0,
    "type_json_skip_duplicated_paths": 1,  # else {"a":1,"a":2} stops the feed
    "max_block_size": 1_000_000,
    "min_insert_block_size_rows": 4_000_000,
    "min_insert_block_size_bytes": 4_000_000_000,
    "max_insert_threads": 1,
}
"""One INSERT is one block; JSON is taken as it stands."""

CREATE_FACTS = """CREATE TABLE IF NOT EXISTS {db}.facts (
    workspace LowCardinality(String), what LowCardinality(String), m UInt128,
    at Int64, ord UInt128, _partition UInt16, _offset UInt64,
    said Array(LowCardinality(String)), gone Array(LowCardinality(String)), data JSON, granted UInt8
) ENGINE = MergeTree ORDER BY (workspace, what, m, ord)"""
"""`at` is ms; `ord` sorts facts of one member by instant, then its own before those of members merged
into it (bit 63, cleared by the reader), then as they came. `said` are the traits a fact speaks of, `gone`
those of them it removes, `data` the values."""

INDEX_OFFSETS = "ALTER TABLE {db}.member_events ADD INDEX IF NOT EXISTS offsets _offset TYPE minmax GRANULARITY 1"
"""So that `derive` reads the parts that came in last, not all."""

_FACTS = """INSERT INTO {db}.facts (workspace, what, m, at, ord, _partition, _offset, said, gone, data, granted)
SELECT workspace, fact.1, m, fact.2,
    bitOr(bitOr(bitShiftLeft(toUInt128(fact.2 + {bias}), 64), toUInt128(9223372036854775808)), toUInt128(_offset)),
    _partition, _offset, fact.3, fact.4, fact.5, fact.6
FROM (
    SELECT workspace, toUInt128(toUUIDOrZero(member_id)) AS m, _partition, _offset,
        toUnixTimestamp64Milli(at) AS ms,
        concat('e:', multiIf(kind = 'track', name, name = '', kind, concat(kind, ':', name))) AS event,
        JSONExtractRaw(json, 'properties') AS properties,
        JSONExtractRaw(json, 'traits') AS traits,
        JSONExtractKeys(json, 'traits') AS names,
        arrayFilter(n -> JSONType(json, 'traits', n) = 'Null', names) AS removed,
        JSONExtract(json, 'trait_times', 'Map(String, String)') AS times,
        arrayJoin(arrayConcat(
            if(kind IN ('track', 'page', 'screen', 'group'),
               [(event, ms, []::Array(String), []::Array(String),
                 if(JSONType(json, 'properties') = 'Object', properties, '{{}}'), 0::UInt8)], []),
            multiIf(empty(names), [],
                    empty(times), [('t', ms, names, removed, traits, 0::UInt8)],
                    arrayMap(n -> ('t', if(mapContains(times, n), {instant}, ms), [n], arrayFilter(r -> r = n, removed),
                                   traits, 0::UInt8), names)),
            if(JSONHas(json, 'consent', 'channel'),
               [(concat('c:', JSONExtractString(json, 'consent', 'channel'), ':',
                        JSONExtractString(json, 'consent', 'topic')),
                 ifNull(toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull(
                     JSONExtractString(json, 'consent', 'since'), 3, 'UTC')), ms),
                 []::Array(String), []::Array(String), '{{}}',
                 (JSONExtractString(json, 'consent', 'state') = 'granted')::UInt8)], []))) AS fact
    FROM (SELECT * REPLACE(if(isValidJSON(json), json, '{{}}') AS json) FROM {db}.member_events
          WHERE {rows}) AS read
) AS made
WHERE m != 0"""
_INSTANT = "ifNull(toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull(times[n], 3, 'UTC')), ms)"


def derive(database: str, spans: Mapping[int, tuple[int, int]]) -> str:
    """SQL that makes the facts of the member events at offsets first <= o < end, by partition. A text
    that is no JSON or an id that is none makes no fact. To be run with `SETTINGS`."""
    rows = " OR ".join(f"(_partition = {p} AND _offset >= {a} AND _offset < {b})" for p, (a, b) in spans.items())
    return _FACTS.format(db=database, bias=BIAS, instant=_INSTANT, rows=rows)


_contact = msgspec.json.Decoder(Contact).decode
_ADDRESSES = {"email": "email", "sms": "phone", "messaging": "telegram_chat_id"}
_FORMS: dict[str, Callable[[str], str]] = {"email": normal_email, "phone": normal_phone}
_PEOPLE = {
    **ORIGIN,
    "workspace": "LowCardinality(String)",
    "status": "LowCardinality(String)",
    "m": "UInt128",
    "user_id": "String",
    "into": "UInt128",
    "holds": "Array(Tuple(LowCardinality(String), Int64, UInt8, UInt8))",
}


@dataclass(frozen=True)
class People:
    """`people`: a row for each contact record. `secret(workspace)` makes ids of addresses."""

    secret: Callable[[str], bytes]
    name: str = "people"
    topic: str = topics.CONTACTS

    def create(self, database: str) -> str:
        """SQL that makes it. `holds` are the suppressions in force: channel, since (ms), whether it is
        for one address, and whether the member's present address is that one."""
        columns = ", ".join(f"`{c}` {t}" for c, t in _PEOPLE.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {database}.people ({columns}) "
            "ENGINE = ReplacingMergeTree(_offset) ORDER BY (workspace, status, m)"
        )

    def insert(self, database: str) -> str:
        """SQL that takes rows."""
        return insert(database, "people", {c: f"`{c}`" for c in _PEOPLE}, f"input({quoted(_PEOPLE)})")

    def row(self, partition: int, offset: int, time: int, value: bytes) -> bytes | None:
        """The row of a contact; None for one whose ids are none."""
        contact = _contact(value)
        try:
            m = uuid.UUID(contact.member_id).int
            into = uuid.UUID(contact.merged_into).int if contact.merged_into else 0
        except ValueError:
            return None
        gone = contact.erased or bool(into)
        held = list(self._holds(contact)) if contact.suppressions else []
        parts = [
            text(self.topic),
            place(partition, offset),
            text(contact.workspace),
            text("gone" if gone else "known" if contact.user_id else "anonymous"),
            uint128(m),
            text(contact.user_id or ""),
            uint128(into),
            size(len(held)),
            *held,
        ]
        return b"".join(parts)

    def _holds(self, contact: Contact) -> Iterator[bytes]:
        secret = self.secret(contact.workspace)
        for held in contact.suppressions:
            kind = _ADDRESSES.get(held.channel, "")
            address = getattr(contact, kind) if kind else None
            mine = address is not None and held.address_id == identifier_id(
                secret, kind, _FORMS.get(kind, str)(address)
            )
            try:
                at = from_iso(held.at)
            except ValueError:
                continue
            yield text(held.channel) + int64(at) + bytes((held.address_id is not None, mine))
