"""A running stack as its users see it: ingestion and the REST API over HTTP. For end-to-end tests.

api = Api(stack)
api.send([{"type": "identify", ...}])
api.ask("PUT", "/v1/segments/loyal", {...})      # the JSON, AssertionError unless 2xx
api.call("GET", "/v1/runs/x")                    # the answer, whatever it is
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.support.slowness import PATIENT
from tests.support.stack import Stack

BATCH = 100
BUCKETS = {"pending", "deferred", "queued", "sent", "skipped", "failed", "unknown"}

Event = dict[str, Any]


def until(ask: Callable[[], Any], what: str, timeout_s: float = 30.0, every_s: float = 0.1) -> Any:
    """Ask until the answer is true; it. AssertionError naming `what` otherwise."""
    deadline = time.monotonic() + PATIENT * timeout_s
    while True:
        if found := ask():
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(every_s)


class Api:
    """One workspace of a stack: the stack's own unless other keys are given."""

    def __init__(self, stack: Stack, write_key: str | None = None, admin_key: str | None = None):
        self.stack = stack
        self.door = httpx.Client(
            base_url=stack.http("ingestion"), auth=(write_key or stack.write_key, ""), timeout=30, trust_env=False
        )
        headers = {"Authorization": f"Bearer {admin_key or stack.admin_key}"}
        self.gate = httpx.Client(base_url=stack.http("gateway"), headers=headers, timeout=60, trust_env=False)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.door.close()
        self.gate.close()

    # the API

    def call(self, method: str, path: str, body: Any = None, key: str | None = None, **params: Any) -> httpx.Response:
        """Any call; `key` is its Idempotency-Key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.gate.request(method, path, json=body, params=params or None, headers=headers)

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None, **params: Any) -> Any:
        """A call that must succeed; its JSON."""
        answer = self.call(method, path, body, key, **params)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json() if answer.content else None

    def get(self, path: str, **params: Any) -> Any:
        return self.ask("GET", path, **params)

    def post(self, path: str, body: Any = None, key: str | None = None) -> Any:
        return self.ask("POST", path, body, key)

    def put(self, path: str, body: Any) -> Any:
        return self.ask("PUT", path, body)

    def all(self, path: str, limit: int = 500, **params: Any) -> list[dict[str, Any]]:
        """Every page of a list."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.get(path, limit=limit, **params, **({"cursor": cursor} if cursor else {}))
            found += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def inbox(self, **filters: Any) -> list[dict[str, Any]]:
        """Captured messages, newest first."""
        return self.all("/v1/inbox/messages", **filters)

    # events

    def send(self, events: Iterable[Event], strict: bool = True) -> None:
        """All events in batches, in order. Waits and tries again when the door asks for it."""
        events = list(events)
        for start in range(0, len(events), BATCH):
            self._batch(events[start : start + BATCH], strict)

    def send_lanes(self, lanes: Sequence[Sequence[Event]], pause_s: float = 0.0) -> None:
        """Several sequences at once, each in order, with a pause after each batch."""

        def one(lane: Sequence[Event]) -> None:
            for start in range(0, len(lane), BATCH):
                self._batch(lane[start : start + BATCH], True)
                time.sleep(pause_s)

        with ThreadPoolExecutor(max(1, len(lanes))) as pool:
            list(pool.map(one, lanes))

    def _batch(self, part: Sequence[Event], strict: bool) -> None:
        for _ in range(100):
            answer = self.door.post(
                "/v1/batch", json={"batch": list(part)}, headers={"X-Strict-Mode": "1"} if strict else {}
            )
            if answer.status_code not in (429, 503):
                assert answer.status_code == 200, answer.text
                return
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        raise AssertionError("ingestion stayed overloaded")

    # waiting

    def drain(self, timeout_s: float = 90.0) -> None:
        """Wait until all that was accepted is done everywhere; AssertionError with who is behind."""
        seen: dict[str, Any] = {}
        clean = 0

        def drained() -> bool:
            nonlocal seen, clean
            try:
                answer = self.call("GET", "/v1/lag")
                seen = answer.json()
            except (httpx.HTTPError, ValueError) as e:  # the gateway was killed under the call
                clean, seen = 0, {"gateway": str(e)}
                return False
            clean = clean + 1 if answer.is_success and seen["drained"] else 0
            return clean >= 2

        try:
            until(drained, "drained", timeout_s, 0.2)
        except AssertionError as e:
            raise AssertionError(f"{e}: {seen}") from None

    def run(self, run_id: str) -> dict[str, Any]:
        """GET /v1/runs/{id}, checked: the counts sum to the touches, each group of reasons to its count."""
        run: dict[str, Any] = self.get(f"/v1/runs/{run_id}")
        assert set(run["counts"]) == BUCKETS
        assert sum(run["counts"].values()) == run["touches"], run
        for bucket, by in run["reasons"].items():
            assert sum(by.values()) == run["counts"][bucket], run
        return run

    def run_until(self, run_id: str, check: Callable[[dict[str, Any]], Any], what: str, timeout_s: float = 60.0) -> Any:
        """Poll a run until `check` likes it; the run as it is then. Every answer on the way is checked."""
        last: dict[str, Any] = {}

        def look() -> bool:
            nonlocal last
            last = self.run(run_id)
            return bool(check(last))

        try:
            until(look, what, timeout_s, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {last}") from None
        return last

    def finished(self, run_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for a run's end."""
        found: dict[str, Any] = self.run_until(run_id, lambda r: r["status"] == "finished", "the end", timeout_s)
        return found

    def settled(self, run_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until nothing of a run is pending or on its way (deferred touches may wait)."""
        found: dict[str, Any] = self.run_until(
            run_id,
            lambda r: r["touches"] and not r["counts"]["pending"] and not r["counts"]["queued"],
            "settled",
            timeout_s,
        )
        return found

    def live(self, segment: str, count: int | None = None, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until a segment is live (with so many members)."""

        def look() -> Any:
            found = self.get(f"/v1/segments/{segment}")
            return found if found["status"] == "live" and count in (None, found["count"]) else None

        found: dict[str, Any] = until(look, f"segment {segment} live with {count}", timeout_s)
        return found

    def advance(self, to: str, timeout_s: float = 180.0) -> None:
        """Move the test clock and wait until it has arrived."""
        answer = self.call("POST", "/v1/test-clock/advance", {"frozen_time": to})
        assert answer.status_code == 202, answer.text

        def ready() -> bool:
            clock = self.get("/v1/test-clock")
            assert clock["status"] in ("advancing", "ready"), clock
            return bool(clock["status"] == "ready")

        until(ready, f"the clock at {to}", timeout_s)
