"""Questions to the warehouse that no service answers by gRPC yet (consents as of an instant)."""

import asyncio
import threading
from typing import Any

from rondo_common import warehouse
from rondo_common.problems import unavailable
from rondo_common.settings import Settings


class Questions:
    """Calls run one at a time in a thread; the client is made when first asked and again after trouble."""

    def __init__(self, settings: Settings):
        self._url = settings.url_warehouse
        self._client: Any = None
        self._lock = threading.Lock()

    async def __call__(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return await asyncio.to_thread(self._rows, statement, parameters)

    def _rows(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                self._client = self._client or warehouse.connect(self._url)
                return list(self._client.query(statement, parameters=parameters).result_rows)
            except Exception as e:
                self._client = None
                raise unavailable("the warehouse", type(e).__name__) from e
