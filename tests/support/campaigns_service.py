"""The campaigns service in memory: its requests over its stage, with the log and Redis left out."""

import json
from typing import Any

import msgspec

from rondo_common import topics
from rondo_common.clock import iso
from rondo_common.definitions import ACTIVATED
from rondo_common.problems import Problem, invalid
from rondo_common.records import Command, Definition
from rondo_common.streams.view import Unavailable
from services.campaigns.grpc_server import CampaignsServicer, Requests
from services.campaigns.requests.control import ControlRequests
from services.campaigns.requests.definitions import DefinitionRequests
from services.campaigns.requests.messages import MessageRequests
from services.campaigns.requests.runs import RunIndex, RunRequests
from services.campaigns.store import RunViews
from tests.support.campaigns_world import WORKSPACE, World

TEMPLATE = {"default_locale": "en", "email": {"from": "a@example.com", "subject": "Hi", "text": "hi"}}


class MemoryDefinitions:
    """Stands for DefinitionStore."""

    def __init__(self, world: World, index: RunIndex):
        self._all: dict[tuple[str, str, str], list[Definition]] = {}
        self._world = world
        self._index = index
        self.before_put: Any = None

    def get(self, workspace: str, kind: str, id: str, version: int | None = None) -> Definition | None:
        found = self._all.get((workspace, kind, id), [])
        if version is None:
            return found[-1] if found else None
        return next((d for d in found if d.version == version), None)

    def versions(self, workspace: str, kind: str, id: str) -> list[Definition]:
        return list(self._all.get((workspace, kind, id), []))

    def list(self, workspace: str, kind: str) -> list[Definition]:
        return [v[-1] for k, v in sorted(self._all.items()) if k[:2] == (workspace, kind)]

    async def put(
        self, workspace: str, kind: str, id: str, body: dict[str, Any], actor: str = "", if_version: int | None = None
    ) -> Definition:
        if self.before_put is not None:
            self.before_put(kind)
        newest = self.get(workspace, kind, id)
        if if_version is not None and (newest.version if newest else 0) != if_version:
            raise Problem(412, "version-changed", "changed")
        raw = msgspec.json.encode(body, order="sorted")
        if newest is not None and bytes(newest.body) == raw:
            return newest
        version = newest.version + 1 if newest else 1
        at = iso(self._world.driver.now + len(self._all))
        d = Definition(workspace, kind, id, version, msgspec.Raw(raw), at, actor)
        self._all.setdefault((workspace, kind, id), []).append(d)
        self._index.note(d)
        if kind in ACTIVATED:
            self._world.to_all(self._world.command("definition.activated", definition=d))
        return d


class MemoryWriter:
    """Stands for CommandWriter."""

    def __init__(self, world: World):
        self._world = world
        self.written: list[Command] = []

    async def to_all(self, command: Command) -> None:
        self.written.append(command)
        self._world.to_all(command)

    async def to_members(self, commands: list[Command]) -> None:
        self.written.extend(commands)
        for c in commands:
            self._world.to_member(topics.COMMANDS, c.member_id or "", c, c.id)


class MemoryViews:
    """Stands for AsyncStateView. `restoring` partitions answer Unavailable."""

    def __init__(self, world: World):
        self._world = world
        self.partitions = world.partitions
        self.restoring: set[int] = set()

    async def get_many(self, partition: int, state_keys: list[str]) -> list[Any]:
        if partition in self.restoring:
            raise Unavailable(f"partition {partition} is being restored")
        states = self._world.driver.states(partition)
        return [states.get(k) for k in state_keys]


class MemorySegments:
    """Stands for segmentation: a rule {"bad": ...} is refused."""

    def __init__(self, definitions: MemoryDefinitions, world: World):
        self._definitions = definitions
        self._world = world
        self.down = False

    async def exists(self, workspace: str, id: str) -> bool:
        if self.down:
            raise Problem(503, "unavailable", "segmentation is not available")
        return False

    async def put(self, workspace: str, id: str, name: str, rule: dict[str, Any], actor: str) -> None:
        if self.down:
            raise Problem(503, "unavailable", "segmentation is not available")
        if "bad" in rule:
            raise Problem(422, "invalid-rule", "no", errors=[invalid("/rule/bad", "unknown_field", "no")])
        await self._definitions.put(workspace, "segment", id, {"name": name, "rule": rule}, actor)


class Service:
    """All of it. `servicer` is what gRPC serves."""

    def __init__(self, partitions: int = 2):
        self.world = World(partitions)
        index = RunIndex()
        self.definitions = MemoryDefinitions(self.world, index)
        self.writer = MemoryWriter(self.world)
        self.views = MemoryViews(self.world)
        self.segments = MemorySegments(self.definitions, self.world)
        clock = self.world.driver.clock
        self.control = ControlRequests(self.definitions, self.writer, clock)
        self.requests = Requests(
            DefinitionRequests(self.definitions, self.segments),
            self.control,
            MessageRequests(self.definitions, self.writer, self.segments, self.control, clock),
            RunRequests(self.definitions, RunViews(self.views, self.definitions), index, clock),
        )
        self.servicer = CampaignsServicer(self.requests)

    async def segment(self, id: str, *members: str) -> None:
        """A live segment with these members."""
        d = await self.definitions.put(WORKSPACE, "segment", id, {"rule": {"of": list(members)}})
        for m in members:
            self.world.membership(m, id)
        self.world.live(id, d.version)

    async def campaign(self, id: str, body: dict[str, Any]) -> int:
        if self.definitions.get(WORKSPACE, "template", body["template"]) is None:
            raw = json.dumps(TEMPLATE).encode()
            await self.requests.definitions.put_template(WORKSPACE, body["template"], raw, "k1", None)
        d, _ = await self.requests.definitions.put_campaign(WORKSPACE, id, json.dumps(body).encode(), "k1", None)
        return d.version
