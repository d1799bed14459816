"""The warehouse, through the official ClickHouse client. Which engine answers is one URL: by default the
insights process with the embedded engine, else a ClickHouse cluster (RONDO_URL_WAREHOUSE)."""

import re
import threading
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

from rondo_common import telemetry
from rondo_common.problems import Problem, unavailable

DATABASE = "rondo"
_LIMITS = re.compile(r"Code: (158|159|160|241|307)\b")
"""ClickHouse's codes for: too many rows, too slow, estimated too slow, too much memory, too many bytes."""

log = telemetry.logger(__name__)


def connect(url: str) -> Any:
    """A blocking client; not for use by several threads at once. Raises clickhouse_connect's
    OperationalError when nothing answers."""
    parts = urlsplit(url)
    return clickhouse_connect.get_client(
        host=parts.hostname,
        port=parts.port,
        username=parts.username or "default",
        password=parts.password or "",
        interface="https" if parts.scheme == "https" else "http",
        compress=False,
        query_limit=0,
        autogenerate_session_id=False,
        connect_timeout=5,
        send_receive_timeout=60,
    )


class Warehouse:
    """A client that connects when first asked and again after trouble. Thread-safe."""

    def __init__(self, url: str):
        self._url = url
        self._client: Any = None
        self._lock = threading.Lock()

    def rows(
        self, statement: str, parameters: dict[str, Any], settings: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of a SELECT. Problem 503 when the warehouse does not answer, 422 when the statement went
        beyond a limit of `settings` (max_execution_time, max_memory_usage)."""
        with self._lock:
            try:
                if self._client is None:
                    self._client = connect(self._url)
                return list(self._client.query(statement, parameters=parameters, settings=settings).result_rows)
            except DatabaseError as e:
                if found := _LIMITS.search(str(e)):
                    raise Problem(422, "too-costly", "The question costs too much", f"limit {found[1]}") from e
                log.warning("the warehouse refused a statement", error=str(e)[:500])
                raise unavailable("the warehouse", type(e).__name__) from e
            except Exception as e:
                self._client = None
                raise unavailable("the warehouse", type(e).__name__) from e
