"""Where imports are kept: one folder each, with the file, the job, and its errors.

A job is written anew and swapped in whole, so a crash leaves the old or the new one. Errors are only
appended; the job says how many bytes of them count. A lock on the folder keeps two processes off the
same job, and vanishes with its holder.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

_ID = re.compile(r"im[0-9a-f]{16}")


class Job(msgspec.Struct, kw_only=True):
    """An import. `rows` are those looked at, also the place to go on from."""

    id: str
    workspace: str
    status: str
    """queued, running, finished or failed."""
    mapping: msgspec.Raw
    sha256: str
    """Of the file and the mapping: what message ids are made of."""
    dry_run: bool = False
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    error_bytes: int = 0
    busy_ms: int = 0
    """Time spent on it, for the rate."""
    created_at: str = ""
    finished_at: str | None = None
    error: str | None = None


def job_id(workspace: str, digest: str, dry_run: bool) -> str:
    """The same file and mapping in the same workspace are the same import."""
    return "im" + hashlib.sha256(f"{workspace}:{digest}:{dry_run}".encode()).hexdigest()[:16]


class Jobs:
    """All imports below one folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def temporary(self) -> Path:
        """A name for an upload that is under way."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"upload-{os.urandom(8).hex()}.part"

    def add(self, job: Job, upload: Path) -> None:
        """Take a new job with its file."""
        home = self._folder / job.id
        home.mkdir(parents=True, exist_ok=True)
        os.replace(upload, home / "file.csv")
        self.save(job)

    def get(self, id: str) -> Job | None:
        """The job, or None."""
        if not _ID.fullmatch(id):
            return None
        try:
            return msgspec.json.decode((self._folder / id / "job.json").read_bytes(), type=Job)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def unfinished(self) -> Iterator[Job]:
        """Jobs that wait or were interrupted."""
        for path in sorted(self._folder.glob("im*/job.json")):
            job = self.get(path.parent.name)
            if job is not None and job.status in ("queued", "running"):
                yield job

    def save(self, job: Job) -> None:
        """Replace the job's file."""
        path = self._folder / job.id / "job.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(msgspec.json.encode(job))
        os.replace(part, path)

    def file(self, job: Job) -> Path:
        """The file that was sent."""
        return self._folder / job.id / "file.csv"

    def drop_file(self, job: Job) -> None:
        """Forget the file's content: it is full of people."""
        self.file(job).unlink(missing_ok=True)

    def append_errors(self, job: Job, errors: list[dict[str, Any]]) -> None:
        """Add errors behind those that count; `job` knows them when it is saved next."""
        lines = b"".join(msgspec.json.encode(e) + b"\n" for e in errors)
        path = self._folder / job.id / "errors.jsonl"
        with path.open("r+b" if path.exists() else "w+b") as f:
            f.truncate(job.error_bytes)
            f.seek(job.error_bytes)
            f.write(lines)
        job.error_bytes += len(lines)

    def errors(self, job: Job, start: int, limit: int) -> tuple[list[Any], int | None]:
        """Up to `limit` errors from byte `start`, and where the next ones begin (None at the end)."""
        path = self._folder / job.id / "errors.jsonl"
        found: list[Any] = []
        if not path.exists():
            return found, None
        with path.open("rb") as f:
            f.seek(start)
            while f.tell() < job.error_bytes and len(found) < limit:
                found.append(msgspec.json.decode(f.readline()))
            at = f.tell()
        return found, at if at < job.error_bytes else None

    def lock(self, job: Job) -> IO[bytes] | None:
        """The job for this process alone until the returned file is closed; None when another has it."""
        held = (self._folder / job.id / "lock").open("wb")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            return None
        return held
