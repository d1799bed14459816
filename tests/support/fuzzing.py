"""Schemathesis, as it comes, against a running system: its command line, seeded and bounded.

    report = Target(stack, "fuzz").gateway(seed=1, examples=5)
    assert report.good, report.text

Checked for every answer: no server error, the status documented for that address, content type, headers
and body as documented, bad input refused, no call without a key, no method nobody named.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.gateway.contract.examples import BODIES, IDS
from tests.support.spine_api import Api, until
from tests.support.spine_people import introduce
from tests.support.stack import Stack

SEEDED_AT = "2026-01-01T09:00:00Z"
CONFIG = Path(__file__).parents[1] / "conformance" / "schemathesis.toml"


@dataclass(frozen=True)
class Report:
    """How a run ended. `cases` is how many calls were made."""

    code: int
    text: str

    @property
    def cases(self) -> int:
        return self._number(r"(\d+) generated")

    @property
    def tested(self) -> tuple[int, int]:
        """(addresses that were called, addresses of the document)."""
        return self._number(r"Tested: (\d+)"), self._number(r"Selected: \d+/(\d+)")

    def _number(self, pattern: str) -> int:
        found = re.search(pattern, self.text)
        return int(found[1]) if found else 0

    @property
    def good(self) -> bool:
        return self.code == 0


def fuzz(
    document: str,
    options: list[str],
    seed: int,
    examples: int,
    phases: str = "examples,coverage,fuzzing,stateful",
    timeout_s: float = 280.0,
) -> Report:
    """Run Schemathesis against the OpenAPI document at a URL. `examples` bounds the calls to each address
    in the phases that make data up."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", document, *options,
        "--seed", str(seed), "--max-examples", str(examples), "--phases", phases, "--no-color", "--continue-on-failure",
        "--generation-database", "none", "--workers", "2", "--warnings", "off", "--output-truncate", "false",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    return Report(done.returncode, done.stdout + done.stderr)


class Target:
    """A running stack with a workspace of its own, in which the ids of the documents' examples exist."""

    def __init__(self, stack: Stack, name: str):
        with Api(stack) as first:
            made = first.post("/v1/workspaces", {"id": name})
        self.stack, self.keys = stack, made["keys"]
        with Api(stack, made["keys"]["write"], made["keys"]["admin"]) as api:
            api.send([*introduce("u1", SEEDED_AT, plan="gold"), *introduce("u2", SEEDED_AT)])
            until(lambda: api.call("GET", "/v1/members/u2").status_code == 200, "the members to be there")
            for noun in ("segments", "templates", "campaigns"):
                id = IDS[noun]
                api.put(f"/v1/{noun}/{id}", BODIES["put", f"/v1/{noun}/{{id}}"])
            api.put("/v1/templates/receipt", BODIES["put", "/v1/templates/{id}"])
            api.put("/v1/policies/budget/weekly", BODIES["put", "/v1/policies/{kind}/{id}"])

    def gateway(self, **bounds: Any) -> Report:
        """Fuzz the REST API."""
        key = f"Authorization: Bearer {self.keys['admin']}"
        return fuzz(self.stack.http("gateway") + "/openapi.json", ["-H", key], **bounds)

    def ingestion(self, **bounds: Any) -> Report:
        """Fuzz the door. It keeps the good events of a batch with bad ones, so that bad input is no refusal."""
        options = ["-a", f"{self.keys['write']}:", "--exclude-checks", "negative_data_rejection"]
        return fuzz(self.stack.http("ingestion") + "/openapi.json", options, **bounds)
