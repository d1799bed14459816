"""POST /v1/imports and its status (WIRE 2)."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rondo_common import web
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem, from_validation, invalid, not_found
from services.ingestion.imports.jobs import Job, Jobs, job_id
from services.ingestion.imports.mapping import Field, Mapping, compiled
from services.ingestion.imports.runner import Runner

MAX_UPLOAD = 512 * 1024 * 1024
"""Bytes of an import's request."""
_CHUNK = 1024 * 1024
_TRUE = frozenset({"1", "true", "yes", "on"})

Authorize = Callable[[Request], str]
"""The workspace of a request's write key, or Problem 401."""


class Imports:
    """The endpoints."""

    def __init__(self, jobs: Jobs, runner: Runner, clock: Clock, authorize: Authorize, public_url: str):
        self._jobs = jobs
        self._runner = runner
        self._clock = clock
        self._authorize = authorize
        self._base = public_url.rstrip("/")

    def routes(self) -> list[BaseRoute]:
        """The routes of this module."""
        return [
            Route("/v1/imports", self.create, methods=["POST"]),
            Route("/v1/imports/{id}", self.status, methods=["GET"]),
            Route("/v1/imports/{id}/errors", self.errors, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a file. The same file with the same mapping answers the same import and changes nothing; one
        that failed is tried again."""
        workspace = self._authorize(request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Problem(
                415, "unsupported-media-type", "The content type is not supported", "Send multipart/form-data"
            )
        # a form that can't be read is Starlette's own 400
        async with request.form(max_files=2, max_fields=10, max_part_size=64 * 1024) as form:
            job = await self._received(workspace, form, request.query_params.get("dry_run", ""))
        self._runner.add()
        return web.json_response({"import_id": job.id}, 202, {"Location": f"/v1/imports/{job.id}"})

    async def _received(self, workspace: str, form: FormData, dry_run: str) -> Job:
        upload, text, asked = form.get("file"), form.get("mapping"), form.get("dry_run") or dry_run
        if not isinstance(upload, UploadFile):
            raise _lacking("/file", "a CSV file with a first row of column names")
        if isinstance(text, UploadFile):
            text = (await text.read(64 * 1024)).decode("utf-8", "replace")
        if not isinstance(text, str) or not text:
            raise _lacking("/mapping", "JSON that says what the columns mean")
        mapping = _mapping(text)
        path = self._jobs.temporary()
        try:
            digest = await _stored(upload, path)
            return self._job(workspace, mapping, digest, isinstance(asked, str) and asked.lower() in _TRUE, path)
        finally:
            path.unlink(missing_ok=True)

    def _job(self, workspace: str, mapping: Mapping, digest: str, dry_run: bool, path: Path) -> Job:
        compiled(mapping, _columns(path, mapping.delimiter))
        canonical = msgspec.json.encode(mapping, order="sorted")
        digest = hashlib.sha256(digest.encode() + canonical).hexdigest()
        id = job_id(workspace, digest, dry_run)
        known = self._jobs.get(id)
        if known is not None and known.status != "failed":
            return known
        job = Job(
            id=id,
            workspace=workspace,
            status="queued",
            mapping=msgspec.Raw(canonical),
            sha256=digest,
            dry_run=dry_run,
            created_at=iso(self._clock.now()),
        )
        self._jobs.add(job, path)
        return job

    async def status(self, request: Request) -> Response:
        """How far an import is."""
        job = self._found(request)
        seconds = job.busy_ms / 1000
        return web.json_response(
            {
                "import_id": job.id,
                "status": job.status,
                "rows": job.rows,
                "accepted": job.accepted,
                "rejected": job.rejected,
                "rate_per_s": round(job.rows / seconds, 1) if seconds else 0.0,
                "errors_url": f"{self._base}/v1/imports/{job.id}/errors",
                "dry_run": job.dry_run,
                "created_at": job.created_at,
                "finished_at": job.finished_at,
                "error": job.error,
            }
        )

    async def errors(self, request: Request) -> Response:
        """The refused rows: {row, code, pointer, detail}; row 1 is the first below the column names."""
        job = self._found(request)
        cursor, limit = request.query_params.get("cursor", "0"), request.query_params.get("limit", "100")
        if not cursor.isdecimal() or not limit.isdecimal() or not 1 <= int(limit) <= 500:
            raise Problem(
                422, "invalid-request", "The request is not valid", "cursor as it was given, limit from 1 to 500"
            )
        found, at = self._jobs.errors(job, int(cursor), int(limit))
        return web.json_response(web.page(found, None if at is None else str(at)))

    def _found(self, request: Request) -> Job:
        workspace = self._authorize(request)
        id = request.path_params["id"]
        job = self._jobs.get(id)
        if job is None or job.workspace != workspace:
            raise not_found("import", id)
        return job


def _lacking(pointer: str, what: str) -> Problem:
    errors = [invalid(pointer, "required", what)]
    return Problem(422, "invalid-request", "The request is not valid", f"{pointer[1:]} is missing", errors)


def _mapping(text: str) -> Mapping:
    try:
        return msgspec.json.decode(text, type=Mapping)
    except msgspec.ValidationError as e:
        _name_the_field(text)
        raise from_validation(e, "/mapping", "The mapping is not valid") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise Problem(400, "malformed", "The request can't be read", f"mapping is not JSON: {e}") from None


def _name_the_field(text: str) -> None:
    """Problem 422 for the first field that is no source: msgspec's own paths leave out keys of objects."""
    mapping = msgspec.json.decode(text)
    for group in ("properties", "traits", "context"):
        fields = mapping.get(group) if isinstance(mapping, dict) else None
        for name, field in fields.items() if isinstance(fields, dict) else ():
            try:
                msgspec.convert(field, Field)
            except msgspec.ValidationError as e:
                raise from_validation(e, f"/mapping/{group}/{name}", "The mapping is not valid") from None


async def _stored(upload: UploadFile, path: Path) -> str:
    """Copy an upload; its SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("wb") as f:
        while chunk := await upload.read(_CHUNK):
            digest.update(chunk)
            f.write(chunk)
    return digest.hexdigest()


def _columns(path: Path, delimiter: str) -> list[str]:
    if len(delimiter) != 1:
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            return [c.strip() for c in next(csv.reader(f, delimiter=delimiter, strict=True), [])]
    except (UnicodeDecodeError, csv.Error) as e:
        detail = f"the first row can't be read: {e}"
        raise Problem(
            422, "invalid-file", "The file is not valid", detail, [invalid("/file", "unreadable", detail)]
        ) from None
