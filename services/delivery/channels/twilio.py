"""SMS by Twilio's Messages resource, sent by httpx; a test holds the bytes equal to the twilio package's.

https://www.twilio.com/docs/messaging/api/message-resource; error codes at twilio.com/docs/api/errors.
"""

import base64
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

import httpx
import msgspec

from services.delivery.channels import Single
from services.delivery.channels.http import client, post, retry_after, server_failure
from services.delivery.model import Answer, Lookup, Message, Verdict, digest

NAME = "twilio"

PERMANENT = {21211: "invalid_number", 21610: "suppressed_stop", 21614: "not_a_mobile_number"}
"""Errors that will be the same next time: the number is suppressed."""
REFUSED = {21612: "unroutable", 21408: "region_not_enabled", **PERMANENT}


def form(message: Message, sender: str, callback_base: str) -> bytes:
    """Body of POST Messages.json, the fields in the order in which the twilio package writes them."""
    callback = f"{callback_base}/v1/callbacks/twilio/status?" + urlencode(
        {k: message.args.get(k, "") for k in ("w", "m", "t", "r", "c")}
    )
    return urlencode({"To": message.to, "StatusCallback": callback, "From": sender, "Body": message.text}).encode()


class Twilio:
    """One Twilio account. `public_url` is the base of its callbacks."""

    name = NAME
    askable = True
    pipelines = False

    def __init__(
        self,
        base: str,
        account: str,
        token: str,
        sender: str,
        public_url: str,
        connect_timeout: float,
        timeout: float,
        connections: int,
    ):
        self._url = f"{base.rstrip('/')}/2010-04-01/Accounts/{account}/Messages.json"
        basic = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._auth = {"Authorization": f"Basic {basic}", "Accept": "application/json"}
        self._sender = sender
        self._public_url = public_url.rstrip("/")
        self._http = client(connect_timeout, timeout, connections)

    def seat(self) -> Single:
        return Single(self.send)

    async def send(self, message: Message, touch_id: str) -> Answer:
        headers = {**self._auth, "Content-Type": "application/x-www-form-urlencoded"}
        found = await post(self._http, NAME, self._url, form(message, self._sender, self._public_url), headers)
        return found if isinstance(found, Answer) else answer_of(found, time.time())

    async def look_up(self, task: Lookup) -> Answer:
        """Twilio's list by number and day; the text tells the message."""
        day = datetime.fromtimestamp(task.since / 1000, UTC).strftime("%Y-%m-%d")
        query = {"To": task.to, "DateSent>": day, "PageSize": "100"}
        try:
            response = await self._http.get(self._url, params=query, headers=self._auth)
        except httpx.HTTPError as e:
            return Answer(Verdict.UNKNOWN, NAME, reason="not_askable_now", detail=type(e).__name__)
        if response.status_code != 200:
            return Answer(Verdict.UNKNOWN, NAME, reason="not_askable_now", detail=f"HTTP {response.status_code}")
        try:
            return found_in(_read_list(response.content).messages, task)
        except msgspec.DecodeError:
            return Answer(Verdict.UNKNOWN, NAME, reason="not_askable_now", detail="unreadable")

    async def close(self) -> None:
        await self._http.aclose()


class _Resource(msgspec.Struct):
    sid: str = ""
    to: str = ""
    body: str = ""
    status: str = ""
    error_code: int | None = None
    date_created: str | None = None


class _List(msgspec.Struct):
    messages: list[_Resource] = []


class _Error(msgspec.Struct):
    code: int | None = None


_read_list = msgspec.json.Decoder(_List).decode
_read_one = msgspec.json.Decoder(_Resource).decode
_read_error = msgspec.json.Decoder(_Error).decode


def found_in(messages: list[_Resource], task: Lookup) -> Answer:
    """The message of `task` among Twilio's, by number, text and time. Texts are compared as Twilio
    keeps them, without blanks at the ends."""
    for m in messages:
        same = task.digest in (digest(m.body), digest(m.body.strip()))
        if not same or m.to != task.to or _before(m.date_created, task.since):
            continue
        return Answer(Verdict.ACCEPTED, NAME, m.sid)
    return Answer(Verdict.NOT_SENT, NAME, reason="not_taken")


def _before(date: str | None, since: int) -> bool:
    try:
        return date is not None and parsedate_to_datetime(date).timestamp() * 1000 < since
    except ValueError:
        return False


def answer_of(response: httpx.Response, now: float) -> Answer:
    """What a response means."""
    status = response.status_code
    if status in (200, 201):
        try:
            return Answer(Verdict.ACCEPTED, NAME, _read_one(response.content).sid)
        except msgspec.DecodeError:
            return Answer(Verdict.ACCEPTED, NAME)
    if status == 429:
        return Answer(Verdict.RETRY, NAME, reason="rate_limited", after=retry_after(response.headers, now))
    if status in (401, 403):
        return Answer(Verdict.NOT_SENT, NAME, reason="provider_refused_us", detail=f"HTTP {status}", after=5_000)
    if 400 <= status < 500:
        try:
            code = _read_error(response.content).code or 0
        except msgspec.DecodeError:
            code = 0
        return Answer(
            Verdict.REJECTED,
            NAME,
            reason=REFUSED.get(code, "provider_rejected"),
            detail=str(code) if code else f"HTTP {status}",
            permanent=code in PERMANENT,
        )
    return server_failure(NAME, status)
