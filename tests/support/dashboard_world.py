"""A whole installation as the dashboard sees it, without one: a gateway, fourteen processes, a broker.

The inbox is capture's own API over its own store; the rest is answers a test sets.
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from rondo_common import web
from rondo_common.clock import Clock, iso
from rondo_common.settings import Settings
from services.capture import api as capture_api
from services.capture.model import Message
from services.capture.store import Inbox
from services.dashboard.api import make_app
from services.dashboard.clients.broker import Broker
from services.dashboard.clients.gateway import Gateway
from services.dashboard.clients.processes import Processes
from services.dashboard.collector import WANTED, Collector
from services.dashboard.dead import Grave
from tests.support.web_thread import WebThread

KEY = "rk_test"
PROCESSES = (
    *("ingestion", "profiles", "segmentation", "campaigns", "rhythm"),
    *("delivery-email", "delivery-sms", "delivery-messaging", "links", "gateway"),
    *("dashboard", "insights", "community", "egress"),
)


def now_iso(ago_s: float = 0) -> str:
    return iso(int((time.time() - ago_s) * 1000))


def run(id: str, campaign: str, status: str, ago_s: float, **counts: int) -> dict[str, Any]:
    """A run as the API answers it; reasons are the test's to add."""
    every = {"pending": 0, "deferred": 0, "queued": 0, "sent": 0, "skipped": 0, "failed": 0, "unknown": 0, **counts}
    return {
        "run_id": id,
        "campaign": campaign,
        "version": 1,
        "kind": "broadcast",
        "status": status,
        "started_at": now_iso(ago_s),
        "finished_at": None,
        "audience": sum(every.values()),
        "touches": sum(every.values()),
        "counts": every,
        "reasons": {"deferred": {}, "skipped": {}, "failed": {}, "unknown": {}},
        "engagement": {},
        "rate_per_s": None,
        "eta_s": None,
    }


class Process:
    """What a process answers. `counters` are (metric with labels) -> value."""

    def __init__(self) -> None:
        self.ready, self.detail = True, "processing 8 partitions"
        self.counters: dict[str, float] = {}
        self.asked: Counter[str] = Counter()


class FakeBroker:
    """Stands for clients.broker.Broker, whose own test needs Kafka."""

    def __init__(self) -> None:
        self.backlog: dict[str, dict[str, tuple[int, int]]] = {}
        self.graves: dict[tuple[str, int], Grave] = {}
        self.began = self.every_s = 0.0
        self.why = ""
        self.down_since: float | None = None

    @property
    def seen_at(self) -> float | None:
        return self.down_since if self.down_since is not None else time.monotonic()


class Acts:
    """Notes what is done as a member."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str, str, int]] = []

    async def do(self, m: Message, act: str, text: str = "", link: int = 0) -> int:
        self.done.append((m.id, act, text, link))
        return 202


class World:
    """Starts everything; `dashboard.url` is the page's address."""

    def __init__(self, folder: Path, clock: Clock | None = None):
        self.processes = {name: Process() for name in PROCESSES}
        self.runs: list[dict[str, Any]] = []
        self.conversations: list[dict[str, Any]] = []
        self.members: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, str] = {}
        """Beginning of a path to the detail of the 503 it is answered with."""
        self.posts: list[tuple[str, Any, str]] = []
        self.acts, self.inbox = Acts(), Inbox(str(folder))
        self.asked: Counter[str] = Counter()
        self.gateway = WebThread(self._api())
        self.fleet = WebThread(self._fleet())
        self.state_file = folder / "state.json"
        self.write_state()
        self.broker = FakeBroker()
        settings = Settings(state_file=str(self.state_file), admin_key=KEY, url_gateway=self.gateway.url)
        broker: Broker = self.broker  # type: ignore[assignment]
        self.collector: Collector
        app: list[Any] = []

        async def pages(scope: Any, receive: Any, send: Any) -> None:
            await app[0](scope, receive, send)

        def beside() -> list[Any]:
            gateway, processes = Gateway(settings.url_gateway, KEY), Processes(settings, WANTED)
            self.collector = Collector(processes, gateway, broker, clock or Clock())
            app[:] = [make_app(self.collector, gateway, "http://rondo.test:7009")]
            return [sampling(gateway, processes)]

        async def sampling(gateway: Gateway, processes: Processes) -> None:
            try:
                await self.collector.run()
            finally:
                await gateway.close()
                await processes.close()

        self.dashboard = WebThread(pages, beside)

    def write_state(self, silent: tuple[str, ...] = (), names: tuple[str, ...] = PROCESSES) -> None:
        """The state document; `silent` processes stand in it with a port where nobody listens."""

        def instance(name: str) -> dict[str, Any]:
            base = "http://127.0.0.1:9" if name in silent else f"{self.fleet.url}/p/{name}"
            return {"slot": 0, "http": base, "metrics": f"{base}/metrics", "status": "ready"}

        state = {
            "services": {n: {"instances": [instance(n)]} for n in names},
            "capture": {"smtp": "127.0.0.1:2525"},
            "servers": {"kafka": {"status": "ready"}, "redis": {"status": "ready"}},
        }
        new = self.state_file.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self.state_file)

    def close(self) -> None:
        for server in (self.dashboard, self.gateway, self.fleet):
            server.stop()
        self.inbox.close()

    def message(self, **of: Any) -> Message:
        """Put a message into the inbox."""
        id = self.inbox.next_id()
        args = {"w": "demo", "m": "5f2a8c1e-0000-4000-8000-00000000" + id[1:].zfill(4), "t": f"touch-{id}"}
        made = Message(
            id=id,
            channel=of.pop("channel", "email"),
            provider=of.pop("provider", "smtp"),
            provider_id=f"p-{id}",
            sender=of.pop("sender", "Shop <hi@example.com>"),
            to=of.pop("to", "ann@example.com"),
            received_at=now_iso(of.pop("ago_s", 1)),
            at=0,
            args=args | of.pop("args", {}),
            **of,
        )
        self.inbox.add(made)
        return made

    def _fleet(self) -> Starlette:
        async def readyz(request: Request) -> Response:
            p = self.processes[request.path_params["name"]]
            p.asked["readyz"] += 1
            return JSONResponse({"ready": p.ready, "detail": p.detail}, 200 if p.ready else 503)

        async def metrics(request: Request) -> Response:
            p = self.processes[request.path_params["name"]]
            p.asked["metrics"] += 1
            return PlainTextResponse("".join(f"{name} {value}\n" for name, value in p.counters.items()))

        return Starlette(routes=[Route("/p/{name}/readyz", readyz), Route("/p/{name}/metrics", metrics)])

    def _api(self) -> Any:
        async def runs(request: Request) -> Response:
            return JSONResponse({"data": self.runs[: int(request.query_params["limit"])], "next_cursor": None})

        async def conversations(request: Request) -> Response:
            return JSONResponse({"data": self.conversations, "next_cursor": None})

        async def member(request: Request) -> Response:
            id = request.path_params["id"]
            if id not in self.members:
                raise web.not_found("member", id)
            return JSONResponse(self.members[id])

        async def change(request: Request) -> Response:
            body = await request.json()
            self.posts.append((request.url.path, body, request.headers.get("idempotency-key", "")))
            id, act = request.path_params["id"], request.path_params["act"]
            if act == "close":
                self.conversations = [c for c in self.conversations if c["id"] != id]
            for c in self.conversations:
                if c["id"] == id:
                    c["messages"].append({"direction": "out", "text": body["text"], "at": now_iso()})
            return JSONResponse({}, 202)

        app = Starlette(
            routes=[
                Route("/v1/runs", runs),
                Route("/v1/conversations", conversations),
                Route("/v1/conversations/{id}/{act}", change, methods=["POST"]),
                Route("/v1/members/{id}", member),
                Mount("/", routes=capture_api.routes(self.inbox, self.acts)),  # type: ignore[arg-type]
            ]
        )
        web.install(app)

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.asked[scope["path"]] += 1
                if dict(scope["headers"]).get(b"authorization") != f"Bearer {KEY}".encode():
                    await PlainTextResponse("", 401)(scope, receive, send)
                    return
                for path, detail in self.refuse.items():
                    if scope["path"].startswith(path):
                        problem = web.unavailable("this", detail)
                        await web.problem_response(problem)(scope, receive, send)
                        return
            await app(scope, receive, send)

        return guarded
