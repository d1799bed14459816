"""What a provider says afterwards: signed event webhooks, status callbacks, inbound messages.

Everything goes to the public door with the provider's own signature, as it would from outside:
SendGrid's ECDSA over timestamp + body, Twilio's HMAC-SHA1 over URL and sorted form, Telegram's
secret token. Links are only followed when they lead to this installation.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from rondo_common import telemetry
from rondo_common.clock import Clock
from rondo_common.settings import Settings
from services.capture.model import Message

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36"
SCANNER = "Mozilla/5.0 (compatible; BarracudaSentinel/1.0; +link-protection)"
_BATCH = 500
_BATCH_S = 0.25
_TRIES = 40
_AT_ONCE = 16
"""Callbacks on their way at a time. httpx looks through all its waiting requests whenever one ends, so
that hundreds of them would take the whole process and run into their time limit in the line."""

log = telemetry.logger(__name__)


def sendgrid_signature(private_key: str, timestamp: str, body: bytes) -> str:
    """Base64 ECDSA P-256/SHA-256 over timestamp + body, as SendGrid's event webhook signs."""
    key = load_der_private_key(base64.b64decode(private_key), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()


def twilio_signature(token: str, url: str, form: dict[str, str]) -> str:
    """Base64 HMAC-SHA1 over the URL followed by the sorted form fields, as Twilio signs."""
    data = url + "".join(k + form[k] for k in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), data.encode(), hashlib.sha1).digest()).decode()


def multipart(fields: dict[str, str]) -> tuple[bytes, str]:
    """A multipart/form-data body and its content type, as Inbound Parse posts."""
    boundary = secrets.token_hex(12)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode(), f"multipart/form-data; boundary={boundary}"


class Callbacks:
    """Sends callbacks, repeating each until the door takes it (5xx and refused connections wait)."""

    def __init__(self, settings: Settings, clock: Clock):
        self._s = settings
        self._clock = clock
        self._http = httpx.AsyncClient(timeout=5.0, follow_redirects=False)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._events: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._update = int(time.time()) * 1000

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._http.aclose()

    def soon(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- SendGrid

    def mail_event(self, m: Message, event: str, **more: Any) -> None:
        """Queue an event of a mail for the event webhook; sent in batches."""
        if not self._s.sendgrid_private_key:
            return
        if not self._events:
            self.soon(self._flush_later())
        self._events.append(
            {
                "email": m.to,
                "timestamp": self._clock.now() // 1000,
                "event": event,
                "sg_event_id": secrets.token_urlsafe(16),
                "sg_message_id": m.provider_id,
                "smtp-id": m.message_id or "",
                **m.args,
                **more,
            }
        )
        if len(self._events) >= _BATCH:
            self.soon(self._flush())

    async def _flush_later(self) -> None:
        await asyncio.sleep(_BATCH_S)
        await self._flush()

    async def _flush(self) -> None:
        events, self._events = self._events[:_BATCH], self._events[_BATCH:]
        if self._events:
            self.soon(self._flush())
        if events:
            body = json.dumps(events, separators=(",", ":")).encode()
            await self._signed_post("/v1/callbacks/sendgrid", body, "application/json")

    async def mail_reply(self, m: Message, text: str) -> None:
        """The member answers a mail: Inbound Parse."""
        fields = {
            "from": m.to,
            "to": m.sender,
            "subject": f"Re: {m.subject or ''}",
            "text": text,
            "headers": f"In-Reply-To: {m.message_id}\nMessage-ID: <{uuid.uuid4()}@member.example>\n",
            "envelope": json.dumps({"to": [m.sender], "from": m.to}),
        }
        body, kind = multipart(fields)
        await self._signed_post("/v1/callbacks/sendgrid-inbound", body, kind)

    async def _signed_post(self, path: str, body: bytes, kind: str) -> None:
        timestamp = str(self._clock.now() // 1000)
        headers = {
            "content-type": kind,
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
            "X-Twilio-Email-Event-Webhook-Signature": sendgrid_signature(self._s.sendgrid_private_key, timestamp, body),
        }
        await self._post(self._s.public_url + path, body, headers)

    # -- Twilio

    async def sms_status(self, m: Message, status: str, error: int | None = None) -> None:
        """A status callback, when the message asked for one."""
        if not m.callback or not self._ours(m.callback):
            return
        form = {"MessageSid": m.provider_id, "MessageStatus": status, "To": m.to, "From": m.sender}
        if error:
            form["ErrorCode"] = str(error)
        await self._twilio_post(m.callback, form)

    async def sms_reply(self, m: Message, text: str) -> None:
        """The member answers by text message."""
        form = {
            "MessageSid": "SM" + uuid.uuid4().hex,
            "AccountSid": self._s.twilio_account,
            "From": m.to,
            "To": m.sender,
            "Body": text,
            "NumMedia": "0",
        }
        await self._twilio_post(self._s.public_url + "/v1/callbacks/twilio/inbound", form)

    async def _twilio_post(self, url: str, form: dict[str, str]) -> None:
        body = str(httpx.QueryParams(form)).encode()
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": twilio_signature(self._s.twilio_token, url, form),
        }
        await self._post(url, body, headers)

    # -- Telegram

    async def chat_reply(self, m: Message, text: str) -> None:
        """The member answers in a chat."""
        self._update += 1
        now = self._clock.now() // 1000
        chat = {"id": int(m.to) if m.to.lstrip("-").isdigit() else m.to, "type": "private"}
        message = {
            "message_id": self._update,
            "date": now,
            "chat": chat,
            "from": {**chat, "is_bot": False},
            "text": text,
        }
        body = json.dumps({"update_id": self._update, "message": message}).encode()
        headers = {"content-type": "application/json", "X-Telegram-Bot-Api-Secret-Token": self._s.telegram_secret}
        await self._post(self._s.public_url + "/v1/callbacks/telegram", body, headers)

    # -- links

    async def follow(self, url: str, agent: str = BROWSER) -> int:
        """GET a link of ours as a reader's program would; its status, 0 when it leads elsewhere."""
        if not self._ours(url):
            return 0
        answer = await self._http.get(url, headers={"user-agent": agent})
        return answer.status_code

    async def one_click(self, url: str) -> int:
        """RFC 8058: POST List-Unsubscribe=One-Click."""
        if not self._ours(url):
            return 0
        answer = await self._http.post(url, data={"List-Unsubscribe": "One-Click"})
        return answer.status_code

    def _ours(self, url: str) -> bool:
        origin = urlsplit(url)[:2]
        return origin in {urlsplit(u)[:2] for u in (self._s.public_url, self._s.url_links)}

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        for n in range(_TRIES):
            try:
                async with self._places:
                    answer = await self._http.post(url, content=body, headers=headers)
                if answer.status_code < 500 and answer.status_code != 429:
                    if answer.status_code >= 400:
                        log.warning("callback refused", path=urlsplit(url).path, status=answer.status_code)
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(min(0.2 * 2**n, 5.0))
        log.error("callback given up", path=urlsplit(url).path)
