"""Idempotency-Key on POST, in one place: claim, run, remember the answer, let others know.

The same key and request: the first answer again, with `Idempotent-Replayed: true`. The same key with
another request: 422. Still running: 409. Answers are kept 72 hours in Redis, which may be lost at any
time: what a repeat would do then still has the same ids, since they are derived from the key, so
that it changes nothing (draft-ietf-httpapi-idempotency-key-header-07).
"""

import hashlib
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rondo_common import telemetry
from rondo_common.problems import Problem, invalid
from rondo_common.redis_client import RedisError
from rondo_common.web import problem_response

KEEP_S = 72 * 3600
RUNNING_S = 60
MAX_KEY = 255

log = telemetry.logger(__name__)


class Kept(msgspec.Struct):
    """What Redis holds under a key. `status` 0: still running."""

    request: str
    status: int = 0
    content_type: str = ""
    body: bytes = b""


_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.Decoder(Kept).decode


class Idempotency:
    """ASGI middleware. `redis` is an async client."""

    def __init__(self, app: ASGIApp, redis: Any):
        self._app, self._redis = app, redis

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        key = headers.get("idempotency-key") if headers and scope["method"] == "POST" else None
        if headers is None or key is None or scope["path"].startswith("/v1/imports"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if not key or len(key) > MAX_KEY:
            where = [invalid("/headers/Idempotency-Key", "invalid", f"1 to {MAX_KEY} characters")]
            problem = Problem(422, "invalid-idempotency-key", "The Idempotency-Key is not valid", errors=where)
            await problem_response(problem, request)(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        digest = hashlib.sha256(b"\n".join((scope["method"].encode(), scope["path"].encode(), body))).hexdigest()
        owner = hashlib.sha256(headers.get("authorization", "").encode()).hexdigest()[:32]
        name = f"idem:{owner}:{key}"
        try:
            claimed = await self._redis.set(name, _encode(Kept(digest)), nx=True, ex=RUNNING_S)
            kept = None if claimed else await self._redis.get(name)
        except (RedisError, OSError) as e:
            log.warning("idempotency store is down; derived ids stand in", error=type(e).__name__)
            await self._app(scope, _replay(body), send)
            return
        if kept is not None:
            await self._repeat(_decode(kept), digest, request, scope, receive, send)
            return
        await self._first(name, digest, body, scope, send)

    async def _repeat(
        self, kept: Kept, digest: str, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if kept.request != digest:
            problem = Problem(422, "idempotency-key-reused", "This Idempotency-Key was used for another request")
            await problem_response(problem, request)(scope, receive, send)
        elif not kept.status:
            problem = Problem(
                409,
                "still-running",
                "The first request with this Idempotency-Key is still running",
                headers={"Retry-After": "1"},
            )
            await problem_response(problem, request)(scope, receive, send)
        else:
            headers = [
                (b"content-type", kept.content_type.encode()),
                (b"content-length", str(len(kept.body)).encode()),
                (b"idempotent-replayed", b"true"),
            ]
            await send({"type": "http.response.start", "status": kept.status, "headers": headers})
            await send({"type": "http.response.body", "body": kept.body})

    async def _first(self, name: str, digest: str, body: bytes, scope: Scope, send: Send) -> None:
        answer = Kept(digest)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.content_type = Headers(raw=message["headers"]).get("content-type", "application/json")
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")
            await send(message)

        try:
            await self._app(scope, _replay(body), noted)
        finally:
            try:
                # our own failures and refusals for load are not answers to keep: the caller will try again
                if answer.status and answer.status < 500 and answer.status not in (401, 403, 429):
                    await self._redis.set(name, _encode(answer), ex=KEEP_S)
                else:
                    await self._redis.delete(name)
            except (RedisError, OSError) as e:
                log.warning("answer not kept", error=type(e).__name__)


def _replay(body: bytes) -> Receive:
    """A `receive` that gives the body that was already read."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
