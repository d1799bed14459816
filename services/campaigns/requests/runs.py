"""Reading runs."""

import asyncio
import threading
from typing import Any

from rondo_common.clock import Clock
from rondo_common.problems import not_found
from rondo_common.records import Definition
from services.campaigns.run_view import run_view
from services.campaigns.store import RUN, Definitions, RunViews, run_facts

PAGE, MOST = 20, 100


class RunIndex:
    """Runs by workspace, newest first. Filled by `note`, which DefinitionStore.on_change calls in its
    own thread."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, tuple[str, str]]] = {}
        self._lock = threading.Lock()

    def note(self, d: Definition) -> None:
        """A definition was read."""
        if d.kind == RUN:
            with self._lock:
                self._runs.setdefault(d.workspace, {})[d.id] = (d.created_at, run_facts(d).campaign)

    def newest(self, workspace: str, campaign: str, limit: int, cursor: str) -> list[str]:
        """Up to `limit` run ids of a campaign ("" for all), after the run `cursor`."""
        with self._lock:
            runs = list(self._runs.get(workspace, {}).items())
        mine = [(at, id) for id, (at, of) in runs if campaign in ("", of)]
        mine.sort(reverse=True)
        if cursor:
            places = [i for i, (_, id) in enumerate(mine) if id == cursor]
            mine = mine[places[0] + 1 :] if places else []
        return [id for _, id in mine[:limit]]


class RunRequests:
    """Runs as the API shows them."""

    def __init__(self, definitions: Definitions, views: RunViews, index: RunIndex, clock: Clock):
        self._definitions = definitions
        self._views = views
        self._index = index
        self._clock = clock

    async def get(self, workspace: str, run_id: str) -> dict[str, Any]:
        """One run. Problem 404; 503 while a partition is being restored."""
        definition = self._definitions.get(workspace, RUN, run_id)
        if definition is None:
            raise not_found("run", run_id)
        facts = run_facts(definition)
        return run_view(facts, await self._views.parts(workspace, facts), self._clock.now())

    async def list(self, workspace: str, campaign: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """Runs, newest first, and the next cursor ("" at the end)."""
        limit = min(max(limit, 0) or PAGE, MOST)
        found = self._index.newest(workspace, campaign, limit + 1, cursor)
        runs = await asyncio.gather(*(self.get(workspace, id) for id in found[:limit]))
        return list(runs), found[limit - 1] if len(found) > limit else ""
