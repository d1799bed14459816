"""Reading members out of the stage's states: from identifiers of any kind to the member they mean."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from rondo_common.ids import identifier_id, member_key, normal_email, normal_phone, workspace_secret
from rondo_common.streams.view import AsyncStateView
from services.profiles import addresses
from services.profiles.claims import holder
from services.profiles.model import ANONYMOUS, USER, Member, claim_key, member_state, sender_key

KINDS = {
    "": USER,
    "id": USER,
    USER: USER,
    ANONYMOUS: ANONYMOUS,
    "email": "email",
    "phone": "phone",
    "telegram_chat_id": "telegram_chat_id",
    "address_id": "address_id",
    "member_id": "member_id",
}
"""Kind of identifier by id_type."""
_CHUNK = 1_000
_MAX_STEPS = 32

Found = tuple[str, Member]


class Members:
    """Members as the stage has them now. Raises `Unavailable` (streams.view) when a partition can't be read."""

    def __init__(self, view: AsyncStateView, secret: str):
        self._view = view
        self._secret = secret

    async def find(self, workspace: str, kind: str, ids: Sequence[str]) -> dict[str, Found]:
        """By id as asked: the member it means now and its state. Unknown ids are left out. `kind` is a
        value of KINDS."""
        if kind == "member_id":
            wanted = {id: id for id in ids}
        elif kind in (USER, ANONYMOUS):
            wanted = await self._owners(workspace, kind, ids)
        else:
            wanted = await self._holders(workspace, kind, ids)
        return await self._follow(workspace, wanted)

    async def page(self, workspace: str, cursor: str, limit: int) -> tuple[list[Found], str]:
        """Members that are not merged away, and the cursor of the next page ("": that was all)."""
        partition, last = _place(cursor)
        prefix = member_state(workspace, "")
        found: list[Found] = []
        while partition < self._view.partitions:
            rows, last = await self._view.scan(prefix, partition, last, limit - len(found))
            found += [(key[len(prefix) :], m) for key, m in rows if m.merged_into is None]
            if last is None:
                partition += 1
            if len(found) >= limit:
                break
        return found, "" if partition >= self._view.partitions else f"{partition}:{last or ''}"

    async def _read(self, workspace: str, rows: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """States by key; `rows` are (id whose partition it lies in, state key)."""
        by_partition: dict[int, list[str]] = {}
        for id, key in rows:
            by_partition.setdefault(self._view.partition(member_key(workspace, id)), []).append(key)
        chunks = [
            (partition, keys[i : i + _CHUNK])
            for partition, keys in by_partition.items()
            for i in range(0, len(keys), _CHUNK)
        ]
        answers = await asyncio.gather(*(self._view.get_many(p, keys) for p, keys in chunks))
        return {
            key: value
            for (_, keys), values in zip(chunks, answers, strict=True)
            for key, value in zip(keys, values, strict=True)
        }

    async def _owners(self, workspace: str, kind: str, ids: Sequence[str]) -> dict[str, str]:
        """By id: the member its sender belongs to, itself when nothing else is known."""
        secret = workspace_secret(self._secret, workspace)
        made = {id: identifier_id(secret, kind, id) for id in ids}
        states = await self._read(workspace, ((i, sender_key(workspace, i)) for i in set(made.values())))
        wanted = {}
        for id, identifier in made.items():
            sender = states[sender_key(workspace, identifier)]
            wanted[id] = identifier if sender is None else sender.member
        return wanted

    async def _holders(self, workspace: str, kind: str, ids: Sequence[str]) -> dict[str, str]:
        """By address (or its id, which is all that inbound messages carry): the member who stated it last."""
        secret = workspace_secret(self._secret, workspace)
        made = {id: id if kind == "address_id" else identifier_id(secret, kind, _comparable(kind, id)) for id in ids}
        states = await self._read(workspace, ((i, claim_key(workspace, i)) for i in set(made.values())))
        held = {id: holder(states[claim_key(workspace, identifier)]) for id, identifier in made.items()}
        return {id: member_id for id, member_id in held.items() if member_id is not None}

    async def _follow(self, workspace: str, wanted: dict[str, str]) -> dict[str, Found]:
        """Members by id as asked, pointers of merged-away ones followed. Pointers lead upwards in one
        order, so this ends; they are mostly one step long."""
        found: dict[str, Found] = {}
        for _ in range(_MAX_STEPS):
            if not wanted:
                break
            targets = set(wanted.values())
            states = await self._read(workspace, ((t, member_state(workspace, t)) for t in targets))
            further = {}
            for id, member_id in wanted.items():
                member = states[member_state(workspace, member_id)]
                if member is None:
                    continue
                if member.merged_into is None:
                    found[id] = (member_id, member)
                else:
                    further[id] = member.merged_into
            wanted = further
        return found


def _comparable(kind: str, address: str) -> str:
    if kind == "email":
        return normal_email(address)
    if kind == "phone":
        return normal_phone(addresses.phone(address) or address)
    return address


def _place(cursor: str) -> tuple[int, str | None]:
    """Partition and last key of a cursor. ValueError when it is none of ours."""
    if not cursor:
        return 0, None
    number, colon, last = cursor.partition(":")
    if not (colon and number.isdecimal() and (not last or last.startswith("m:"))):
        raise ValueError("not a cursor of this list")
    return int(number), last or None
