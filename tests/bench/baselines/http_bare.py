"""What HTTP and JSON alone cost: a bare ASGI application on uvicorn that parses and stores nothing.

    python tests/bench/baselines/http_bare.py PORT

Bodies are parsed as research has it under "raw": the outer shape typed, everything free-form left raw.
"""

import sys

import msgspec
import uvicorn


class Event(msgspec.Struct):
    type: str
    messageId: str
    userId: str | None = None
    anonymousId: str | None = None
    event: str | None = None
    timestamp: str | None = None
    originalTimestamp: str | None = None
    sentAt: str | None = None
    properties: msgspec.Raw = None  # type: ignore[assignment]
    context: msgspec.Raw = None  # type: ignore[assignment]


class Batch(msgspec.Struct):
    batch: list[Event]


one = msgspec.json.Decoder(Event).decode
many = msgspec.json.Decoder(Batch).decode
ANSWER = b'{"success":true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            break
    (many if scope["path"] == "/v1/batch" else one)(b"".join(parts))
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
