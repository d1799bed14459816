"""The warehouse, through the official ClickHouse client. Which engine answers is one URL: by default the
insights process with the embedded engine, else a ClickHouse cluster (RONDO_URL_WAREHOUSE)."""

from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect

DATABASE = "rondo"


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
