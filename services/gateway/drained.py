"""Whether everything accepted so far is done, over all processes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from rondo_common import kafka, lag
from rondo_common.settings import Settings


class Drain:
    """Looks at offsets and at what processes say is under way."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient):
        self._settings = settings
        self._http = http
        self._admin: Any = kafka.admin(settings.kafka, "gateway-lag")
        self._commits = kafka.Commits(settings.kafka, "gateway-lag")

    def addresses(self) -> dict[str, list[str]]:
        """HTTP addresses of every instance by process, from the stack's state file when there is one."""
        path = self._settings.state_file
        if path and Path(path).exists():
            services = json.loads(Path(path).read_text())["services"]
            return {n: [i["metrics"].removesuffix("/metrics") for i in s["instances"]] for n, s in services.items()}
        pairs = (pair.partition("=") for pair in self._settings.services.split(",") if pair)
        return {name: [url] for name, _, url in pairs}

    async def look(self) -> dict[str, Any]:
        """{"drained", "behind": {process: {topic: offsets}}, "under_way": {process: ...}}. What is under way
        is asked before and after the offsets: a call that ends in between shows in one of them. (Once
        something is not done there is nothing more to find out, and nobody is asked twice.)"""
        addresses = self.addresses()
        under_way = await self._under_way(addresses)
        behind = await asyncio.to_thread(lag.behind, self._admin, self._commits, list(addresses))
        if not behind and not under_way:
            under_way = await self._under_way(addresses)
        return {"drained": not behind and not under_way, "behind": behind, "under_way": under_way}

    async def wait(self, timeout_s: float) -> bool:
        """Look until it is drained twice in a row; False after the time-out."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        clean = 0
        while asyncio.get_running_loop().time() < deadline:
            clean = clean + 1 if (await self.look())["drained"] else 0
            if clean >= 2:
                return True
            await asyncio.sleep(0.05)
        return False

    async def _under_way(self, addresses: dict[str, list[str]]) -> dict[str, Any]:
        names = [(name, url) for name, urls in addresses.items() for url in urls]
        found = await asyncio.gather(*(self._ask(url) for _, url in names))
        return {name: what for (name, _), what in zip(names, found, strict=True) if what}

    async def _ask(self, url: str) -> dict[str, float]:
        try:
            # this one metric: writing out and reading all of them cost each process milliseconds a look
            answer = await self._http.get(url + "/metrics", params={"name[]": lag.PENDING}, timeout=2.0)
            return lag.pending(answer.text) if answer.status_code == 200 else {"does not answer": 1.0}
        except httpx.HTTPError:
            return {"does not answer": 1.0}
