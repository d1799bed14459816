"""The ingestion application for tests: with a sink in memory, or served on a socket with the real one.

door = memory_door(tmp_path)                 # .client (httpx), .events(), .rejected(), .records(topic)
async with served(door.asgi) as base: ...    # the same application behind a real socket
"""

import base64
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twilio.request_validator import RequestValidator

from rondo_common import topics
from rondo_common.clock import Clock
from rondo_common.http_server import listening_socket
from rondo_common.keys import Keys
from rondo_common.problems import unavailable
from rondo_common.records import Inbound
from rondo_common.settings import Settings
from services.ingestion import api
from services.ingestion.model import Message
from tests.support.slowness import PATIENT

WRITE_KEY = "wk_test_key"
PUBLIC_URL = "https://rondo.example.com"
TWILIO_TOKEN = "twilio-token"
TELEGRAM_SECRET = "telegram-secret"


class FixedClock(Clock):
    """A clock that says what it is told."""

    def __init__(self, at: int = 1_795_000_000_000):
        super().__init__()
        self.at = at

    def now(self) -> int:
        return self.at


@dataclass
class MemorySink:
    """Keeps what is written. `down` makes it refuse, as Kafka behind would."""

    messages: list[Message] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    down: bool = False

    async def write(self, messages: Sequence[Message], at: int) -> None:
        if self.down:
            raise unavailable("Kafka", "behind", 1)
        self.messages.extend(messages)
        self.times.extend([at] * len(messages))

    def ready(self) -> tuple[bool, str]:
        return (False, "Kafka does not answer") if self.down else (True, "")

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Values written to a topic."""
        return [json.loads(m.value) for m in self.messages if m.topic == topic]


@dataclass
class MemoryMarks:
    """STOP marks as a set of (channel, address id)."""

    held: set[tuple[str, str]] = field(default_factory=set)

    async def follow(self, inbound: Inbound) -> None:
        mark = (inbound.channel, inbound.address_id)
        self.held.add(mark) if inbound.keyword == "stop" else self.held.discard(mark)


class Provider:
    """Signs callbacks as the providers do."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public_key = base64.b64encode(der).decode()

    def sendgrid(self, body: bytes, timestamp: str = "1795000000") -> dict[str, str]:
        """Headers of a signed SendGrid post."""
        made = self.key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(made).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        }

    @staticmethod
    def twilio(path: str, params: dict[str, str]) -> dict[str, str]:
        """Headers of a signed Twilio form; `path` with its query."""
        made = RequestValidator(TWILIO_TOKEN).compute_signature(PUBLIC_URL + path, params)
        return {"X-Twilio-Signature": made, "Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class DoorUnderTest:
    """The application and what is around it."""

    application: api.Application
    sink: MemorySink
    marks: MemoryMarks
    clock: FixedClock
    keys: Keys
    settings: Settings
    provider: Provider

    @property
    def client(self) -> httpx.AsyncClient:
        """A client without a socket in between, with the write key."""
        transport = httpx.ASGITransport(app=self.application.asgi)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://door", auth=(WRITE_KEY, ""))

    def events(self) -> list[dict[str, Any]]:
        return self.sink.of(topics.EVENTS)

    def rejected(self) -> list[dict[str, Any]]:
        return self.sink.of(topics.REJECTED)


def settings_for(folder: Any, provider: Provider, **more: Any) -> Settings:
    """Settings as the tests use them."""
    return Settings(
        write_key=WRITE_KEY,
        admin_key="rk_test_key",
        public_url=PUBLIC_URL,
        twilio_token=TWILIO_TOKEN,
        telegram_secret=TELEGRAM_SECRET,
        sendgrid_public_key=provider.public_key,
        data_dir=str(folder),
        **more,
    )


def memory_door(folder: Any, definitions: Any = None) -> DoorUnderTest:
    """The application over a sink in memory. Make it inside a running event loop."""
    provider = Provider()
    settings = settings_for(folder, provider)
    sink, marks, clock = MemorySink(), MemoryMarks(), FixedClock()
    keys = Keys(settings, definitions)
    application = api.build(settings, sink, keys, clock, marks)
    return DoorUnderTest(application, sink, marks, clock, keys, settings, provider)


@contextmanager
def served(make: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port from a thread with its own event loop. `make` is an async
    function called in that loop, which returns the application. Yields the base URL."""
    import asyncio

    sock = listening_socket("127.0.0.1", 0)
    started = threading.Event()
    box: dict[str, Any] = {}

    async def body() -> None:
        app = await make()
        server = box["server"] = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        started.set()
        await task

    def run() -> None:
        try:
            asyncio.run(body())
        except BaseException as e:
            box["error"] = e
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    if "error" in box:
        raise box["error"]
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        box["server"].should_exit = True
        thread.join(10)
        sock.close()


def eventually(check: Any, seconds: float = 20.0) -> Any:
    """The first true value of `check()`; AssertionError when there is none in time."""
    deadline = time.monotonic() + PATIENT * seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
