"""The embedded engine: ClickHouse in this process (chDB). One session a folder; questions wait their turn."""

import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

_TEXT_FORMATS = ("JSONEachRow", "CSV", "TSV", "TabSeparated", "Values", "JSONCompactEachRow")
_INPUT = "FROM input("


class QueryFailed(Exception):
    """The engine refused a statement; the text is ClickHouse's own."""


class Engine:
    """Runs statements. Thread-safe."""

    def __init__(self, folder: str):
        from chdb import session  # loads 300 MB: only the process that hosts the engine pays

        os.makedirs(folder, exist_ok=True)
        self._session: Any = session.Session(folder)
        self._lock = threading.Lock()

    def run(
        self,
        statement: str,
        body: bytes = b"",
        default_format: str = "TabSeparated",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        """The answer in the format the statement names, else `default_format`. `body` is the data of
        an INSERT, `parameters` the values of {name:Type} in ClickHouse's escaped form. QueryFailed with
        ClickHouse's message."""
        path = None
        try:
            if body:
                head, _, format_ = statement.rstrip().rstrip(";").rpartition(" ")
                if format_ in _TEXT_FORMATS:
                    statement = f"{statement}\n{body.decode()}"
                else:
                    path = _spill(body)
                    target = head.strip().removesuffix("FORMAT").strip()
                    if _INPUT in target:
                        statement = target.replace(_INPUT, f"FROM file('{path}', '{format_}', ", 1)
                    else:
                        statement = f"{target} SELECT * FROM file('{path}', '{format_}')"
            with self._lock:
                answer = self._session.query(statement, default_format, params=dict(parameters or {}))
            return bytes(answer.bytes() or b"")
        except Exception as e:
            raise QueryFailed(str(e)) from e
        finally:
            if path:
                os.unlink(path)

    def close(self) -> None:
        with self._lock:
            self._session.close()


def _spill(body: bytes) -> str:
    handle, path = tempfile.mkstemp(prefix="rondo-insert-")
    with os.fdopen(handle, "wb") as f:
        f.write(body)
    return path
