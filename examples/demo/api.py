"""The demo's way to the system: only what anybody has, HTTP with the keys of .rondo/state.json."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

BATCH = 100
WORKERS = 6


class Api:
    """Ingestion and gateway of a running stack."""

    def __init__(self, state: dict[str, Any]):
        self.state = state
        self.door = httpx.Client(
            base_url=state["services"]["ingestion"]["http"], auth=(state["keys"]["write"], ""), timeout=60
        )
        headers = {"Authorization": f"Bearer {state['keys']['admin']}"}
        self.gate = httpx.Client(base_url=state["services"]["gateway"]["http"], headers=headers, timeout=60)

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The answer's JSON; RuntimeError with what was said when it is no 2xx."""
        answer = self.gate.request(method, path, json=body, params=params or None)
        if answer.status_code >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def send_all(self, events: list[dict[str, Any]], progress: Callable[[int], None]) -> None:
        """Batches of 100 over several connections; members stay on one connection, so their order holds."""
        lanes: list[list[dict[str, Any]]] = [[] for _ in range(WORKERS)]
        for event in events:
            lanes[hash(event["userId"]) % WORKERS].append(event)

        def lane(mine: list[dict[str, Any]]) -> None:
            for start in range(0, len(mine), BATCH):
                part = mine[start : start + BATCH]
                self._batch(part)
                progress(len(part))

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lane, lanes))

    def _batch(self, part: list[dict[str, Any]]) -> None:
        for n in range(100):
            answer = self.door.post("/v1/batch", json={"batch": part}, headers={"X-Strict-Mode": "1"})
            if answer.status_code in (429, 503):  # the door is behind: do as it says
                time.sleep(float(answer.headers.get("Retry-After", "1")) + n / 10)
                continue
            if answer.status_code != 200:
                raise RuntimeError(f"batch refused: {answer.status_code} {answer.text[:500]}")
            return
        raise RuntimeError("ingestion stayed overloaded")

    def drained(self, timeout: float = 240.0) -> None:
        """Wait until all that was accepted is done everywhere."""
        deadline, clean, found = time.monotonic() + timeout, 0, {}
        while time.monotonic() < deadline:
            found = self.call("GET", "/v1/lag")
            clean = clean + 1 if found["drained"] else 0
            if clean >= 2:
                return
            time.sleep(0.4)
        raise RuntimeError(f"not drained after {timeout:.0f} s: {json.dumps(found)[:800]}")

    def run_done(self, run_id: str, timeout: float = 120.0) -> dict[str, Any]:
        """Wait until nothing of a run moves any more (deferred touches may wait); its last state."""
        deadline, run = time.monotonic() + timeout, {}
        while time.monotonic() < deadline:
            run = self.call("GET", f"/v1/runs/{run_id}")
            counts = run["counts"]
            if run["touches"] and not counts["pending"] and not counts["queued"]:
                self.drained()
                return self.call("GET", f"/v1/runs/{run_id}")
            time.sleep(0.2)
        raise RuntimeError(f"run {run_id} did not settle: {json.dumps(run)[:800]}")

    def warehouse(self, statement: str) -> str:
        """The answer of a SELECT, as text."""
        answer = httpx.post(self.state["services"]["insights"]["http"], content=statement, timeout=60)
        answer.raise_for_status()
        return answer.text.strip()

    def inbox(self, **filters: Any) -> list[dict[str, Any]]:
        """All captured messages that match."""
        out: list[dict[str, Any]] = []
        cursor = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = self.call("GET", "/v1/inbox/messages", limit=500, **filters, **more)
            out += page["data"]
            cursor = page["next_cursor"]
            if not cursor:
                return out


def until(ask: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Ask until the answer is true; RuntimeError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.2)
    raise RuntimeError(f"{what} did not happen within {timeout:.0f} s")
