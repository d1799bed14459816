"""SendGrid's Inbound Parse: answers of members by e-mail, as multipart forms.

Signed like the event webhook (a security policy on the parse setting), over the raw bytes. Which
message it answers stands in In-Reply-To or References: our Message-IDs are <touch id@domain>.
"""

import email.policy
import email.utils
import re
from email.message import EmailMessage
from email.parser import BytesParser, HeaderParser
from typing import Any

from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.problems import Problem
from rondo_common.records import Inbound
from services.ingestion.callbacks.common import IGNORED, MAX_TEXT, Recorder, forbidden
from services.ingestion.callbacks.sendgrid_signature import Verifier
from services.ingestion.keywords import keyword, own_words

PROVIDER = "sendgrid"
MAX_BODY = 25 * 1024 * 1024
_MAX_PART = 5 * 1024 * 1024

_TOUCH = re.compile(
    r"<([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:[:.](email|sms|messaging|social))?@"
)
_TAG = re.compile(r"<[^>]{0,2000}>")


class SendgridInbound:
    """Turns signed Inbound Parse posts into Inbound records."""

    def __init__(self, verifier: Verifier, recorder: Recorder):
        self._verifier = verifier
        self._recorder = recorder

    async def take(self, signature: str, timestamp: str, content_type: str, body: bytes, traceparent: str = "") -> int:
        """The number of records kept (0 for a mail without a sender). Problem 403 for a bad signature, 400
        for a body that is no form."""
        if not self._verifier.valid(signature, timestamp, body, b"--"):
            raise forbidden(PROVIDER)
        form = await parsed(content_type, body)
        record = self.record(_fields(form))
        if record is None:
            IGNORED.labels(PROVIDER, "no_sender").inc()
            return 0
        await self._recorder.record(PROVIDER, [record], traceparent)
        return 1

    def record(self, fields: dict[str, str]) -> Inbound | None:
        """The message in a form's fields: `from`, `text`, `html`, `headers`, or the whole mail as `email`."""
        headers = HeaderParser(policy=email.policy.compat32).parsestr(fields.get("headers", ""))
        text = fields.get("text", "")
        sender = fields.get("from", "")
        if raw := fields.get("email"):
            whole = BytesParser(policy=email.policy.default).parsebytes(raw.encode("utf-8", "surrogateescape"))
            text = text or _body_of(whole)
            sender = sender or str(whole.get("From", ""))
            answers = " ".join(str(whole.get(h, "")) for h in ("In-Reply-To", "References"))
            message_id = str(whole.get("Message-ID", ""))
        else:
            answers = " ".join(str(headers.get(h, "")) for h in ("In-Reply-To", "References"))
            message_id = str(headers.get("Message-ID", ""))
        if not text and fields.get("html"):
            text = _TAG.sub(" ", fields["html"])
        address = email.utils.parseaddr(sender)[1]
        if "@" not in address:
            return None
        workspace = self._recorder.settings.workspace
        text = own_words(text.replace("\0", ""))[:MAX_TEXT]
        found = _TOUCH.search(answers)
        touch_id = ":".join(p for p in found.groups() if p) if found else None
        own = message_id.strip() or f"{ids.normal_email(address)}:{answers}:{text}"
        return Inbound(
            workspace=workspace,
            id=ids.derived(own, "sendgrid-inbound"),
            channel="email",
            provider=PROVIDER,
            address_kind="email",
            address_id=self._recorder.address_id(workspace, "email", address),
            text=text,
            at=iso(self._recorder.clock.now()),
            touch_id=touch_id,
            keyword=keyword(text),
        )


async def parsed(content_type: str, body: bytes) -> FormData:
    """A multipart form out of raw bytes; Problem 400 when it is none."""

    async def stream() -> Any:
        yield body

    try:
        if not content_type.lower().startswith("multipart/form-data"):
            raise MultiPartException("not multipart/form-data")
        headers = Headers({"content-type": content_type})
        parser = MultiPartParser(headers, stream(), max_files=100, max_fields=200, max_part_size=_MAX_PART)
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as e:
        raise Problem(400, "malformed", "The request can't be read", f"Not a form: {e}") from None


def _fields(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def _body_of(mail: Any) -> str:
    if not isinstance(mail, EmailMessage):
        return ""
    part = mail.get_body(("plain", "html"))
    if part is None:
        return ""
    try:
        content = part.get_content()
    except (LookupError, ValueError, KeyError):
        return ""
    return _TAG.sub(" ", content) if part.get_content_subtype() == "html" else str(content)
