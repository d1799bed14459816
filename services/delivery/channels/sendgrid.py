"""E-mail by SendGrid's v3 API. Bodies are built by the sendgrid package, sent by httpx.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send (202 = taken).
"""

import time
from email.utils import parseaddr

import httpx
import msgspec
from sendgrid.helpers.mail import Content, CustomArg, Email, Header, Mail, Personalization, To

from services.delivery.channels import Single
from services.delivery.channels.http import client, post, retry_after, server_failure
from services.delivery.model import Answer, Lookup, Message, Verdict
from services.delivery.render import mime

NAME = "sendgrid"


def body(message: Message, touch_id: str, host: str, default_sender: str) -> bytes:
    """JSON of POST /v3/mail/send for one message. Click and open tracking of the account are not used:
    links are tracked already."""
    name, address = parseaddr(message.sender or default_sender)
    mail = Mail()
    mail.from_email = Email(address, name or None)
    mail.subject = message.subject
    person = Personalization()
    person.add_to(To(message.to))
    person.add_header(Header("Message-ID", mime.message_id(touch_id, host)))
    if message.unsubscribe:
        person.add_header(Header("List-Unsubscribe", f"<{message.unsubscribe}>"))
        person.add_header(Header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    for key, value in message.args.items():
        person.add_custom_arg(CustomArg(key, value))
    mail.add_personalization(person)
    mail.add_content(Content("text/plain", message.text or " "))
    if message.html:
        mail.add_content(Content("text/html", message.html))
    return msgspec.json.encode(mail.get())


class SendGrid:
    """One SendGrid account. `host` is the right side of Message-ID."""

    name = NAME
    askable = False  # its activity feed is a paid extra and lags; the event webhook settles
    pipelines = False

    def __init__(
        self,
        base: str,
        key: str,
        host: str,
        default_sender: str,
        connect_timeout: float,
        timeout: float,
        connections: int,
    ):
        self._url = f"{base.rstrip('/')}/v3/mail/send"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._host = host
        self._default_sender = default_sender
        self._http = client(connect_timeout, timeout, connections)

    def seat(self) -> Single:
        return Single(self.send)

    async def send(self, message: Message, touch_id: str) -> Answer:
        found = await post(
            self._http, NAME, self._url, body(message, touch_id, self._host, self._default_sender), self._headers
        )
        return found if isinstance(found, Answer) else answer_of(found, time.time())

    async def look_up(self, task: Lookup) -> Answer:
        return Answer(Verdict.UNKNOWN, NAME, reason="not_askable")

    async def close(self) -> None:
        await self._http.aclose()


def answer_of(response: httpx.Response, now: float) -> Answer:
    """What a response means. 413 and other 4xx speak of the request: nothing was taken."""
    status = response.status_code
    if status in (200, 202):
        return Answer(Verdict.ACCEPTED, NAME, response.headers.get("x-message-id"))
    if status == 429:
        return Answer(Verdict.RETRY, NAME, reason="rate_limited", after=retry_after(response.headers, now))
    if status in (401, 403):
        # the account, not the message: nothing is taken until somebody mends it
        return Answer(Verdict.NOT_SENT, NAME, reason="provider_refused_us", detail=f"HTTP {status}", after=5_000)
    if 400 <= status < 500:
        return Answer(Verdict.REJECTED, NAME, reason="provider_rejected", detail=_detail(response))
    return server_failure(NAME, status)


def _detail(response: httpx.Response) -> str:
    try:
        errors = msgspec.json.decode(response.content)["errors"]
        return f"HTTP {response.status_code}: {errors[0].get('field') or errors[0].get('message', '')}"[:200]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, AttributeError):
        return f"HTTP {response.status_code}"
