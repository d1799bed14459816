"""`rondo send` and `explain`: the HTTP API with the stack's own keys."""

import json as jsonlib
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

from rondo_cli import output, state
from rondo_cli.errors import Failure

TIMEOUT_S = 60.0


def request(
    service: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Any:
    """Call the running stack's `service` with the admin key. Failure with the problem's words when it
    says no."""
    found = state.running()
    where = found["services"].get(service)
    if where is None:
        raise Failure(f"{service} is not part of the running stack")
    call = urllib.request.Request(where["http"] + path, body, headers or {}, method=method)
    call.add_header("Authorization", f"Bearer {found['keys']['admin']}")
    try:
        with urllib.request.urlopen(call, timeout=TIMEOUT_S) as answer:
            return jsonlib.loads(answer.read() or b"null")
    except urllib.error.HTTPError as e:
        raise Failure(_words(e.code, e.read())) from e
    except (urllib.error.URLError, TimeoutError, ValueError) as e:
        raise Failure(f"{service} does not answer as it should: {e}") from e


def _words(status: int, body: bytes) -> str:
    try:
        problem = jsonlib.loads(body)
        lines = [f"{status} {problem['title']}" + (f": {problem['detail']}" if problem.get("detail") else "")]
        lines += [f"  {e['pointer']}: {e['detail']}" for e in problem.get("errors", ())]
        return "\n".join(lines)
    except (ValueError, KeyError, TypeError):
        return f"{status} {body[:200].decode(errors='replace')}"


def send(channel: str, member: str, template: str, data: str, json: bool) -> int:
    """POST /v1/send/CHANNEL; prints the touch id."""
    try:
        body = {"template": template, "to": {"id": member}, "data": jsonlib.loads(data)}
    except ValueError as e:
        raise Failure(f"--data is not JSON: {e}", 2) from e
    headers = {"content-type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
    answer = request("gateway", "POST", f"/v1/send/{channel}", jsonlib.dumps(body).encode(), headers)
    output.as_json(answer) if json else print(f"touch {answer['touch_id']}")
    return 0


def explain(member: str, campaign: str, at: str | None, json: bool) -> int:
    """GET /v1/explain; prints the gates and the verdict."""
    query = {"member": member, "campaign": campaign, **({"at": at} if at else {})}
    answer = request("gateway", "GET", f"/v1/explain?{urllib.parse.urlencode(query)}")
    if json:
        output.as_json(answer)
        return 0
    decision = answer["decision"]
    rows = [
        [g["gate"], g["verdict"], g.get("reason", ""), g.get("until", ""), jsonlib.dumps(g.get("inputs", {}))]
        for g in decision["gates"]
    ]
    output.as_table("", ("gate", "verdict", "reason", "until", "inputs"), rows)
    print(f"{answer['status']} as of {answer['as_of']}: {decision['verdict']} {decision.get('reason') or ''}")
    return 0
