"""Works imports off, one after the other, beside live traffic.

Each slice of rows is written and acknowledged before the next is read, so an import never fills the
producer; when Kafka falls behind it waits. Progress is saved after each slice. What was interrupted
goes on from there at the next start.
"""

import asyncio
import csv
import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from rondo_common import ids, telemetry
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem
from services.ingestion.imports.jobs import Job, Jobs
from services.ingestion.imports.mapping import Mapping, Rows, compiled
from services.ingestion.intake import Intake
from services.ingestion.model import MAX_EVENT, Arrival, Refused
from services.ingestion.times import written
from services.ingestion.validation import suspect, taken

SLICE = 500
_PAUSE_S = 1.0

ROWS = telemetry.counter("rondo_import_rows_total", "Rows of file imports by outcome", ("outcome",))
log = telemetry.logger(__name__)

csv.field_size_limit(MAX_EVENT)


class Runner:
    """See the module. `add` wakes it; `run` is a task that lives as long as the process."""

    def __init__(self, jobs: Jobs, intake: Intake, clock: Clock, master_secret: str):
        self._jobs = jobs
        self._intake = intake
        self._clock = clock
        self._secret = master_secret
        self._wake = asyncio.Event()

    def add(self) -> None:
        """There is a new job."""
        self._wake.set()

    async def run(self) -> None:
        """Work off what is there, then wait for more."""
        while True:
            self._wake.clear()
            for job in list(self._jobs.unfinished()):
                await self._work(job)
            await self._wake.wait()

    async def _work(self, job: Job) -> None:
        held = self._jobs.lock(job)
        if held is None:
            return
        try:
            job = self._jobs.get(job.id) or job
            job.status = "running"
            self._jobs.save(job)
            await self._rows(job)
            job.status = "finished"
        except (OSError, csv.Error, UnicodeDecodeError, Problem, msgspec.MsgspecError) as e:
            job.status, job.error = "failed", str(e)
            log.warning("import failed", import_id=job.id, error=type(e).__name__)
        finally:
            if job.status != "running":
                job.finished_at = iso(self._clock.now())
                self._jobs.save(job)
                self._jobs.drop_file(job)
            held.close()

    async def _rows(self, job: Job) -> None:
        mapping = msgspec.json.decode(job.mapping, type=Mapping)
        with self._jobs.file(job).open(encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f, delimiter=mapping.delimiter, strict=True)
            rows = compiled(mapping, [c.strip() for c in next(reader, [])])
            todo: Iterator[list[str]] = itertools.islice((r for r in reader if r), job.rows, None)
            while batch := list(itertools.islice(todo, SLICE)):
                begun = time.monotonic()
                await self._slice(job, mapping, rows, batch)
                job.busy_ms += int((time.monotonic() - begun) * 1000)
                self._jobs.save(job)
                await asyncio.sleep(0)

    async def _slice(self, job: Job, mapping: Mapping, rows: Rows, batch: list[list[str]]) -> None:
        """One slice into the log; `job` counts it when all of it is acknowledged."""
        now = self._clock.now()
        secret = ids.workspace_secret(self._secret, job.workspace)
        arrival = Arrival(job.workspace, secret, now, written(now), historical=mapping.historical)
        calls: list[bytes] = []
        numbers: list[int] = []
        errors: list[dict[str, Any]] = []
        for number, row in enumerate(batch, job.rows + 1):
            try:
                calls.append(rows.call(row, f"imp-{job.sha256[:24]}-{number}"))
                numbers.append(number)
            except Refused as e:
                errors.append(_error(number, e))
        arrival.suspect = any(suspect(c) for c in calls)
        if job.dry_run:
            refused = list(self._tried(calls, arrival))
        else:
            refused = await self._written(calls, arrival)
        errors += [_error(numbers[i], e) for i, e in refused]
        if errors:
            self._jobs.append_errors(job, sorted(errors, key=lambda e: e["row"]))
        job.rows += len(batch)
        job.rejected += len(errors)
        job.accepted += len(batch) - len(errors)
        ROWS.labels("rejected").inc(len(errors))
        ROWS.labels("accepted").inc(len(batch) - len(errors))

    async def _written(self, calls: list[bytes], arrival: Arrival) -> list[tuple[int, Refused]]:
        while True:
            try:
                return (await self._intake.write(calls, None, "/rows/", arrival, False, ""))[1]
            except Problem as e:
                if e.status != 503:
                    raise
            await asyncio.sleep(_PAUSE_S)

    @staticmethod
    def _tried(calls: list[bytes], arrival: Arrival) -> Iterator[tuple[int, Refused]]:
        for i, call in enumerate(calls):
            try:
                taken(call, None, arrival)
            except Refused as e:
                yield i, e


def _error(row: int, why: Refused) -> dict[str, Any]:
    return {"row": row, "code": why.code.value, "pointer": why.pointer, "detail": why.detail}
