"""The embedded engine: ClickHouse in this process (chDB). One session a folder; questions wait their turn."""

import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from rondo_common.warehouse import DATABASE
from services.insights.repair import repair

_TEXT_FORMATS = ("JSONEachRow", "CSV", "TSV", "TabSeparated", "Values", "JSONCompactEachRow")
_INPUT = "FROM input("
_ROOM = 1 << 20
"""Bytes that must find place before the folder is opened anew."""


class QueryFailed(Exception):
    """The engine refused a statement; the text is ClickHouse's own."""


class EngineLost(Exception):
    """The engine's folder does not open in this process."""


class Engine:
    """Runs statements. Thread-safe."""

    def __init__(self, folder: str):
        os.makedirs(folder, exist_ok=True)
        self._folder = folder
        self._session: Any = None
        self._lock = threading.Lock()
        self.reopen()

    def reopen(self) -> None:
        """Close the folder and open it anew, which puts damaged parts aside: after trouble with the disk. OSError
        while that takes nothing (the engine stays as it is: opened on a full disk it never works again);
        EngineLost when it did not open, which only another process can."""
        from chdb import session  # loads 300 MB: only the process that hosts the engine pays

        with self._lock:
            _probe(self._folder)
            try:
                if self._session is not None:
                    self._session.close()
                    self._session = None
                self._session = session.Session(self._folder)
                repair(
                    lambda statement: bytes(self._session.query(statement, "TabSeparatedRaw").bytes() or b""), DATABASE
                )
            except Exception as e:
                raise EngineLost(str(e)) from e

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
                if self._session is None:
                    raise QueryFailed("the folder is not open")
                answer = self._session.query(statement, default_format, params=dict(parameters or {}))
            return bytes(answer.bytes() or b"")
        except Exception as e:
            raise QueryFailed(str(e)) from e
        finally:
            if path:
                os.unlink(path)

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()


def _probe(folder: str) -> None:
    """OSError unless a file can grow here."""
    with tempfile.TemporaryFile(dir=folder) as f:
        f.write(bytes(_ROOM))
        f.flush()
        os.fsync(f.fileno())


def _spill(body: bytes) -> str:
    handle, path = tempfile.mkstemp(prefix="rondo-insert-")
    with os.fdopen(handle, "wb") as f:
        f.write(body)
    return path
