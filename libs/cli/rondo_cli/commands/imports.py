"""`rondo import`: a CSV file through the HTTP API, followed until it is worked off."""

import sys
import time
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from rondo_cli import output
from rondo_cli.commands.calls import request
from rondo_cli.errors import Failure

EVERY_S = 0.5
SHOWN = 10
"""Refused rows that are printed."""
UNDER_WAY = ("queued", "running")


def import_(file: str, mapping: str, dry_run: bool, wait: bool, json: bool) -> int:
    """POST the file as multipart, wait until it is worked off unless `wait` is False, and print what became of its
    rows. 1 when it failed, or when rows would be refused (`dry_run`)."""
    id = _posted(file, mapping, dry_run)
    if not wait:
        output.as_json({"import_id": id}) if json else print(f"import {id} begun")
        return 0
    if not json:
        print(f"import {id} begun", flush=True)
    job = _ended(id, progress=not json and sys.stderr.isatty())
    if json:
        output.as_json(job)
    if job["status"] == "failed":
        raise Failure(f"the import failed: {job['error']}")
    if not json:
        _print(job)
    return 1 if dry_run and job["rejected"] else 0


def _posted(file: str, mapping: str, dry_run: bool) -> str:
    try:
        rows, fields = Path(file).read_bytes(), Path(mapping).read_bytes()
    except OSError as e:
        raise Failure(str(e), 2) from e
    boundary = uuid.uuid4().hex
    parts = [("file", Path(file).name, rows), ("mapping", "", fields), ("dry_run", "", str(dry_run).lower().encode())]
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return str(request("gateway", "POST", "/v1/imports", body, headers)["import_id"])


def _ended(id: str, progress: bool) -> dict[str, Any]:
    """Its last status. `progress`: how far it is, on stderr, meanwhile."""
    while True:
        try:
            job: dict[str, Any] = request("gateway", "GET", f"/v1/imports/{urllib.parse.quote(id)}")
        except Failure as e:
            raise Failure(f"{e}\nthe import goes on by itself; the same command again shows how it ended") from e
        if progress:
            end = "" if job["status"] in UNDER_WAY else "\n"
            print(f"\r{job['rows']} rows, {job['rate_per_s']:.0f}/s ", end=end, file=sys.stderr, flush=True)
        if job["status"] not in UNDER_WAY:
            return job
        time.sleep(EVERY_S)


def _print(job: dict[str, Any]) -> None:
    rows, refused = job["rows"], job["rejected"]
    if job["dry_run"]:
        print(
            f"checked only, nothing is imported: {job['accepted']} of {rows} rows are good, {refused} would be refused"
        )
    else:
        print(f"{job['accepted']} of {rows} rows are in, {refused} refused")
    if not refused:
        return
    page = request("gateway", "GET", f"/v1/imports/{urllib.parse.quote(job['import_id'])}/errors?limit={SHOWN}")
    found = [[e["row"], e["code"], e["pointer"], e["detail"]] for e in page["data"]]
    output.as_table("", ("row", "code", "pointer", "detail"), found)
    if refused > len(found):
        print(f"and more: GET /v1/imports/{job['import_id']}/errors")
