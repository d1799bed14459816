"""Messages by Telegram's Bot API: https://core.telegram.org/bots/api#sendmessage.

Bots can't look a message up and get no delivery callback: an unknown outcome stays unknown. The API has
no field of ours that comes back, so what a message carries of its cause stands in the W3C `baggage`
header of the call, which Telegram ignores and a sandbox can read."""

from urllib.parse import quote

import httpx
import msgspec

from services.delivery.channels import Single
from services.delivery.channels.http import client, post, server_failure
from services.delivery.model import Answer, Lookup, Message, Verdict

NAME = "telegram"
LONGEST = 4096
"""Characters of one message."""


class _Parameters(msgspec.Struct):
    retry_after: int | None = None


class _Sent(msgspec.Struct):
    message_id: int | None = None


class _Reply(msgspec.Struct):
    ok: bool = False
    description: str = ""
    parameters: _Parameters | None = None
    result: _Sent | None = None


_read = msgspec.json.Decoder(_Reply).decode


def body(message: Message) -> bytes:
    """JSON of sendMessage: plain text, no parse mode, so nothing in it is taken for markup."""
    return msgspec.json.encode({"chat_id": message.to, "text": message.text[:LONGEST]})


class Telegram:
    """One bot."""

    name = NAME
    askable = False
    pipelines = False

    def __init__(self, base: str, token: str, connect_timeout: float, timeout: float, connections: int):
        self._url = f"{base.rstrip('/')}/bot{token}/sendMessage"
        self._http = client(connect_timeout, timeout, connections)

    def seat(self) -> Single:
        return Single(self.send)

    async def send(self, message: Message, touch_id: str) -> Answer:
        headers = {"Content-Type": "application/json"}
        if message.args:
            headers["baggage"] = ",".join(f"{k}={quote(v, safe='')}" for k, v in message.args.items())
        found = await post(self._http, NAME, self._url, body(message), headers)
        return found if isinstance(found, Answer) else answer_of(found)

    async def look_up(self, task: Lookup) -> Answer:
        return Answer(Verdict.UNKNOWN, NAME, reason="not_askable")

    async def close(self) -> None:
        await self._http.aclose()


def answer_of(response: httpx.Response) -> Answer:
    """What a response means. 403: the member blocked the bot or left; 400 "chat not found" is as final."""
    status = response.status_code
    if status >= 500:
        return server_failure(NAME, status)
    try:
        reply = _read(response.content)
    except msgspec.DecodeError:
        if status == 200:
            return Answer(Verdict.UNKNOWN, NAME, reason="unreadable_answer")
        return Answer(Verdict.REJECTED, NAME, reason="provider_rejected", detail=f"HTTP {status}")
    if status == 200 and reply.ok:
        id = reply.result.message_id if reply.result else None
        return Answer(Verdict.ACCEPTED, NAME, None if id is None else str(id))
    if status == 429:
        wait = reply.parameters.retry_after if reply.parameters else None
        return Answer(Verdict.RETRY, NAME, reason="rate_limited", after=None if wait is None else wait * 1000)
    if status == 403 or (status == 400 and "chat not found" in reply.description.lower()):
        return Answer(Verdict.REJECTED, NAME, reason="channel_unusable", detail=f"HTTP {status}", permanent=True)
    if status in (401, 404):
        return Answer(Verdict.NOT_SENT, NAME, reason="provider_refused_us", detail=f"HTTP {status}", after=5_000)
    return Answer(Verdict.REJECTED, NAME, reason="provider_rejected", detail=f"HTTP {status}")
