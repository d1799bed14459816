"""What the documentation tells people to type, typed: README's first campaign and the recipes, in the order in which
somebody would try them, on one system. A call that is refused fails the test."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.slowness import PATIENT
from tests.support.spine_api import Api, until
from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
STRICT = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n'


def blocks(page: str, heading: str = "") -> list[str]:
    """The shell blocks of a page, from a heading on to the next of its kind."""
    text = (ROOT / page).read_text()
    if heading:
        text = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [textwrap.dedent(m[1] + m[2]) for m in BLOCK.finditer(text)]


class Reader:
    """Somebody with a checkout and a running system."""

    def __init__(self, stack: Stack):
        self.stack = stack
        self.folder = stack.folder.parent
        (self.folder / ".venv").mkdir()
        (self.folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
        (self.folder / "examples").symlink_to(ROOT / "examples")
        start, *self.first = blocks("README.md", "A first campaign in five minutes")
        assert start.startswith("make up ARGS=--detach\n")
        start = start.removeprefix("make up ARGS=--detach\n")
        assert blocks("docs/recipes/README.md") == [start]
        self.prelude = STRICT + start

    def types(self, block: str, code: int = 0, **instead: str) -> str:
        """What a block prints. `instead`: what the reader puts for a name in angle brackets."""
        for name, value in instead.items():
            block = block.replace(f"<{name}>", value)
        done = subprocess.run(
            ["bash", "-c", self.prelude + block],
            cwd=self.folder,
            env=self.stack.env,
            capture_output=True,
            text=True,
            timeout=PATIENT * 60,
            check=False,
        )
        assert done.returncode == code, f"{block}\n--\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def answers(self, block: str, **instead: str) -> list[dict[str, Any]]:
        """The JSON documents that a block prints, a line each."""
        return [json.loads(line) for line in self.types(block, **instead).splitlines() if line.startswith("{")]

    def sees(self, line: str, what: Callable[[dict[str, Any]], Any], **instead: str) -> dict[str, Any]:
        """The answer of a line, asked again until it is as it should be."""

        def look() -> dict[str, Any] | None:
            (answer,) = self.answers(line, **instead)
            return answer if what(answer) else None

        found: dict[str, Any] = until(look, line, 30.0, 0.5)
        return found


@pytest.fixture
def reader(fresh_stack: Callable[..., Stack]) -> Reader:
    """With a system of their own: answers by text message belong to its first workspace."""
    return Reader(fresh_stack())


def test_everything_works_as_written(reader: Reader) -> None:
    first_campaign(reader)
    orders_from_a_file(reader)
    segments(reader)
    broadcast(reader)
    triggers(reader)
    sends_and_conversations(reader)
    explanations(reader)
    policies(reader)
    outside(reader)


def first_campaign(reader: Reader) -> None:
    events, segment, template, campaign, message = reader.first
    assert "ann@example.com" in reader.types(events)
    preview, kept = reader.answers(segment)
    assert preview["count"] == 1 and kept["id"] == "buyers", (preview, kept)
    assert "Bonjour Ann" in reader.types(template)
    *_, runs = reader.answers(campaign)
    assert [(r["touches"], r["counts"]["sent"]) for r in runs["data"]] == [(1, 1)], runs
    inbox, explained = reader.answers(message)
    assert [m["to"] for m in inbox["data"]] == ["ann@example.com"]
    assert explained["status"] == "recorded", explained


def orders_from_a_file(reader: Reader) -> None:
    command, call = blocks("docs/recipes/csv-import.md")
    shown = reader.types(command.replace("# check only;", "|| echo exit code $? #"))
    assert "exit code 1" in shown and shown.count("wrong_type") == 2 and "2 of 3 rows are in" in shown, shown
    post, progress, errors = call.strip().splitlines()
    (made,) = reader.answers(post)
    one = made["import_id"]
    reader.sees(progress, lambda a: a["status"] not in ("queued", "running"), import_id=one)
    (refused,) = reader.answers(errors, import_id=one)
    assert [(e["row"], e["code"], e["pointer"]) for e in refused["data"]] == [(3, "wrong_type", "/properties/total")]


def segments(reader: Reader) -> None:
    previews, who = blocks("docs/recipes/segments.md")
    now, then = reader.answers(previews)
    assert (now["count"], then["count"]) == (1, 0)
    segment, members, why = reader.answers(who)
    assert segment["count"] == len(members["data"]) == 2  # Ann, and u2 of the file
    assert why["in"] is True, why


def broadcast(reader: Reader) -> None:
    start, progress, stop = blocks("docs/recipes/broadcast.md")
    run = reader.answers(start)[-1]["run_id"]
    reader.stack.drain()
    runs, one = reader.answers(progress, run_id=run)
    assert runs["data"][0]["run_id"] == one["run_id"] == run
    assert (one["touches"], one["counts"]["sent"], one["reasons"]["skipped"]) == (2, 1, {"consent_missing": 1}), one
    (cart,) = blocks("docs/recipes/triggered-campaign.md")
    reader.types(cart)  # one that is still open, to be paused and ended
    reader.types(stop.replace("spring", "cart"))


def triggers(reader: Reader) -> None:
    campaign, calls, braze = blocks("docs/recipes/api-trigger.md")
    reader.types(campaign)
    for answer in reader.answers(calls):
        assert (answer["accepted"], answer["unknown"]) == (1, [])
    (answer,) = reader.answers(braze)
    assert answer["message"] == "success"
    reader.stack.drain()
    assert {"Your code X1", "Your code X2", "Your code X3"} <= subjects(reader, "code")


def sends_and_conversations(reader: Reader) -> None:
    (send,) = blocks("docs/recipes/transactional-send.md")
    reader.types(send)
    reader.stack.drain()
    assert "Your code X9" in subjects(reader, "")
    talk, stop = blocks("docs/recipes/conversations.md")
    text, inbox, answer, listed, reply, close = talk.strip().splitlines()
    reader.types(text)
    id = reader.sees(inbox, lambda a: a["data"])["data"][0]["id"]
    reader.types(answer.replace("i7", id))
    conversation = reader.sees(listed, lambda a: a["data"])["data"][0]["id"]
    reader.types(reply, id=conversation)
    reader.sees(inbox, lambda a: any("At nine." in json.dumps(m) for m in a["data"]))
    reader.types(close, id=conversation)
    denial, consent = stop.strip().splitlines()
    reader.types(denial.replace("i7", id))
    reader.sees(consent, lambda a: any(c["channel"] == "sms" and c["state"] == "denied" for c in a["consents"]))


def explanations(reader: Reader) -> None:
    why, more = blocks("docs/recipes/explain.md")
    assert "not_targeted" in reader.types(why)  # the instant is one before the run
    assert len(reader.answers(more)) == 5


def policies(reader: Reader) -> None:
    workspace, member = blocks("docs/recipes/quiet-hours-and-budget.md")
    *_, listed, budget = reader.answers(workspace)
    assert {p["id"] for p in listed["data"]} >= {"sms-night", "weekly"}, listed
    assert "weekly" in json.dumps(budget)
    reader.types(member)


def outside(reader: Reader) -> None:
    """CRMs, SDKs, the audit."""
    (follow,) = blocks("docs/recipes/crm-kafka.md")
    assert "message.sent" in reader.types(follow)
    (hook,) = blocks("docs/recipes/crm-webhooks.md")
    (made,) = reader.answers(hook)
    assert made["secret"].startswith("whsec_")
    (strict,) = blocks("docs/recipes/segment-sdks.md")
    assert "pointer" in reader.types(strict, code=22)  # what curl says of a refusal, which this one shows
    (audit,) = blocks("docs/recipes/audit.md")
    (reader.folder / "accepted.txt").write_text("m-1\nm-2\nm-3\n")
    reader.types(audit)


def subjects(reader: Reader, campaign: str) -> set[str]:
    """Of the mails in the sandbox."""
    with Api(reader.stack) as api:
        return {m.get("subject") for m in api.inbox(campaign=campaign)}
