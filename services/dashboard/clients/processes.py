"""What every process says of itself: /readyz and /metrics."""

import asyncio
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import httpx

from rondo_common.settings import Settings
from services.dashboard import addresses
from services.dashboard.exposition import Metrics, parse
from services.dashboard.model import Place, Sample

TIMEOUT_S = 2.0


class Processes:
    """Asks all instances at once."""

    def __init__(self, settings: Settings, metrics: Collection[str]):
        self._settings = settings
        self._wanted = tuple(metrics)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        self._stamp: tuple[int, int] | None = None
        self._found: tuple[list[Place], list[tuple[str, str]]] = ([], [])

    async def close(self) -> None:
        await self._http.aclose()

    def places(self) -> tuple[list[Place], list[tuple[str, str]]]:
        """Every instance, and the stack's own servers with their status: from the state file when there
        is one (read anew when it changed), else from the setting."""
        path = Path(self._settings.state_file) if self._settings.state_file else None
        try:
            stamp = path.stat() if path else None
        except OSError:
            stamp = None
        if path is None or stamp is None:
            return addresses.from_setting(self._settings.services, self._settings.url_capture), []
        if self._stamp != (stamp.st_mtime_ns, stamp.st_ino):
            try:
                state = json.loads(path.read_text())
                self._found = addresses.from_state(state), addresses.servers(state)
                self._stamp = (stamp.st_mtime_ns, stamp.st_ino)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # it is replaced at each change: what was read before still holds
        return self._found

    async def ask(self, places: Sequence[Place]) -> list[Sample]:
        """Every instance's answers, in the order given. Never raises."""
        return list(await asyncio.gather(*(self._one(p) for p in places)))

    async def _one(self, place: Place) -> Sample:
        ready, metrics = await asyncio.gather(self._ready(place.url), self._metrics(place.url))
        state, detail = ready
        return Sample(place, state, detail or (place.note if state != "ready" else ""), metrics)

    async def _ready(self, url: str) -> tuple[str, str]:
        try:
            answer = await self._http.get(url + "/readyz")
        except httpx.TimeoutException:
            return "silent", f"does not answer within {TIMEOUT_S:.0f} s"
        except httpx.HTTPError:
            return "silent", "does not answer"
        try:
            body = answer.json()
            detail = str(body.get("detail") or "")
        except (ValueError, AttributeError):
            detail = ""
        if answer.status_code == 200:
            return "ready", detail
        return "not_ready", detail or f"answers {answer.status_code}"

    async def _metrics(self, url: str) -> Metrics | None:
        try:
            answer = await self._http.get(url + "/metrics")
        except httpx.HTTPError:
            return None
        return parse(answer.text, self._wanted) if answer.status_code == 200 else None
