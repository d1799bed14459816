"""The warehouse as insights makes it, in this process, with random members in it."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rondo_common import ids, topics
from rondo_common.records import Contact, Delivery
from services.insights import facts
from services.insights.engine import Engine
from services.insights.tables import TABLES
from tests.support.segment_oracle import Person
from tests.support.segment_records import records

SECRET = b"s" * 32
PEOPLE = facts.People(lambda workspace: SECRET)
_TABLES = {t.topic: t for t in TABLES}


class Warehouse:
    """Same tables, rows and statements as the feed's; `rows` as `rondo_common.warehouse.Warehouse`."""

    def __init__(self, folder: str):
        self.engine = Engine(folder)
        self._offset = 0
        self.engine.run("CREATE DATABASE rondo")
        for table in (*TABLES, PEOPLE):
            self.engine.run(table.create("rondo"))
        self.engine.run(facts.CREATE_FACTS.format(db="rondo"))
        self.engine.run(facts.INDEX_OFFSETS.format(db="rondo"))

    def feed(self, found: Iterable[tuple[str, Any]]) -> None:
        """Write (topic, record) as the feed does, all of one partition."""
        lines: dict[str, list[bytes]] = {}
        settings = ", ".join(f"{name} = {value}" for name, value in facts.SETTINGS.items())
        first = self._offset
        for topic, record in found:
            value = msgspec.json.encode(record)
            tables = [_TABLES[topic], *([PEOPLE] if topic == topics.CONTACTS else [])]
            for table in tables:
                row = table.row(0, self._offset, 1_767_225_600_000, value)
                if row is not None:
                    lines.setdefault(table.name, []).append(row)
            self._offset += 1
        for table in (*TABLES, PEOPLE):
            if rows := lines.get(table.name):
                statement = table.insert("rondo").replace("FORMAT", f"SETTINGS {settings} FORMAT")
                self.engine.run(statement, b"".join(rows))
        self.engine.run(f"{facts.derive('rondo', {0: (first, self._offset)})} SETTINGS {settings}")

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        from clickhouse_connect.driver.binding import format_bind_value

        bound = {name: str(format_bind_value(value)) for name, value in parameters.items()}
        answer = self.engine.run(statement, b"", "JSONCompactEachRow", bound)
        return [tuple(msgspec.json.decode(line)) for line in answer.splitlines()]

    def close(self) -> None:
        self.engine.close()


def facts_of(workspace: str, person: Person, user_id: str | None, merged_into: str = "") -> list[tuple[str, Any]]:
    """All records about a person: profiles writes a contact for each, delivery and links the rest."""
    held: Contact | None = None
    found: list[tuple[str, Any]] = []
    for _, topic, record in records(person):
        record.workspace = workspace
        if not isinstance(record, Contact):
            record.id = f"{person.member_id}:{record.id}"
        if isinstance(record, Delivery):
            record.touch_id = record.id  # no two members have a touch in common
        if isinstance(record, Contact):
            held = record
        else:
            found.append((topic, record))
    contact = Contact(workspace, person.member_id, suppressions=held.suppressions if held else [])
    found.insert(0, (topics.CONTACTS, contact))
    contact = msgspec.structs.replace(contact, user_id=user_id)
    if user_id:
        found.append((topics.CONTACTS, contact))
    if merged_into:
        found.append((topics.CONTACTS, Contact(workspace, person.member_id, merged_into=merged_into)))
    return found


def member_id(n: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"member-{n}"))


def address_id(kind: str, value: str) -> str:
    forms = {"email": ids.normal_email, "phone": ids.normal_phone}
    return ids.identifier_id(SECRET, kind, forms.get(kind, str)(value))
