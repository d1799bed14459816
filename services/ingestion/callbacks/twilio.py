"""Twilio: status callbacks of messages we sent, and messages from members.

Signed with HMAC-SHA1 over the public URL and the form's parameters (X-Twilio-Signature), checked by
Twilio's own RequestValidator. The URL is the configured public one with the path and query exactly as
they came: Host and X-Forwarded-* are strangers' words. Only forms are taken: a JSON body would not be
covered by the signature. Whatever goes wrong while checking is a bad signature.

Error codes as in Twilio's "Error and Warning Dictionary".
"""

from urllib.parse import parse_qsl

from twilio.request_validator import RequestValidator

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.records import Delivery, Inbound
from services.ingestion.callbacks.common import IGNORED, MAX_TEXT, Recorder, attribution, forbidden
from services.ingestion.keywords import keyword

PROVIDER = "twilio"
MAX_BODY = 64 * 1024
MAX_FIELDS = 200

PERMANENT = frozenset({"21211", "21214", "21614", "30005", "30006"})
"""The number itself can't be reached by SMS: not valid, unknown, a landline."""
REASONS = {
    "21610": "opted_out",
    "30003": "unreachable",
    "30004": "blocked",
    "30005": "unknown_number",
    "30006": "landline",
    "30007": "carrier_filtered",
    "21211": "invalid_number",
    "21214": "invalid_number",
    "21614": "invalid_number",
}
_STATUS = {"delivered": "delivered", "undelivered": "bounced", "failed": "bounced"}


class Params(dict[str, list[str]]):
    """Form parameters with all their values, as RequestValidator reads them."""

    def getlist(self, name: str) -> list[str]:
        """All values of a parameter."""
        return self[name]

    def one(self, name: str) -> str:
        """The last value, or empty."""
        return self[name][-1] if name in self else ""


class Twilio:
    """Verifies and turns callbacks into records."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        token = recorder.settings.twilio_token
        self._validator = RequestValidator(token) if token else None
        self._base = recorder.settings.public_url.rstrip("/")

    def verified(self, path: str, query: str, content_type: str, signature: str, body: bytes) -> Params:
        """The form of a signed request, or Problem 403. `path` and `query` as they stood on the wire."""
        try:
            if self._validator is None or content_type.partition(";")[0].strip().lower() not in (
                "application/x-www-form-urlencoded",
                "",
            ):
                raise forbidden(PROVIDER)
            params = Params()
            for name, value in parse_qsl(
                body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            ):
                params.setdefault(name, []).append(value)
            url = f"{self._base}{path}?{query}" if query else f"{self._base}{path}"
            if not signature or not self._validator.validate(url, params, signature):
                raise forbidden(PROVIDER)
            return params
        except Exception as e:
            raise forbidden(PROVIDER) from e

    async def status(self, params: Params, query: str, traceparent: str = "") -> int:
        """Keep what a status callback says; the number of records."""
        record = self.delivery(params, query)
        await self._recorder.record(PROVIDER, [record] if record else [], traceparent)
        return 1 if record else 0

    async def inbound(self, params: Params, query: str, traceparent: str = "") -> int:
        """Keep a member's message; the number of records."""
        record = self.message(params, query)
        await self._recorder.record(PROVIDER, [record] if record else [], traceparent)
        return 1 if record else 0

    def delivery(self, params: Params, query: str) -> Delivery | None:
        """The Delivery of a status callback; None for states on the way (queued, sending, sent)."""
        status = params.one("MessageStatus") or params.one("SmsStatus")
        sid = params.one("MessageSid") or params.one("SmsSid")
        about = attribution(dict(parse_qsl(query)), self._recorder.settings.workspace)
        if status not in _STATUS or not sid or not about.known:
            IGNORED.labels(PROVIDER, "not_ours" if status in _STATUS else "kind").inc()
            return None
        code = params.one("ErrorCode")
        bad = status != "delivered"
        to = params.one("To")
        return Delivery(
            workspace=about.workspace,
            id=ids.derived(f"{sid}:{status}", PROVIDER),
            touch_id=about.touch_id,
            member_id=about.member_id,
            channel="sms",
            provider=PROVIDER,
            status=_STATUS[status],
            at=iso(self._recorder.clock.now()),
            campaign=about.campaign,
            run_id=about.run_id,
            reason=REASONS.get(code, "undelivered" if status == "undelivered" else "failed") if bad else None,
            detail=code if bad and code else None,
            provider_id=sid,
            address_id=self._recorder.address_id(about.workspace, "phone", to) if to else None,
            permanent=bad and code in PERMANENT,
        )

    def message(self, params: Params, query: str) -> Inbound | None:
        """The Inbound of an incoming message; None when it names no sender."""
        sid = params.one("MessageSid") or params.one("SmsSid")
        sender = params.one("From")
        if not sid or not sender:
            IGNORED.labels(PROVIDER, "unreadable").inc()
            return None
        about = attribution(dict(parse_qsl(query)), self._recorder.settings.workspace)
        text = params.one("Body").replace("\0", "")[:MAX_TEXT]
        return Inbound(
            workspace=about.workspace,
            id=ids.derived(sid, "twilio-inbound"),
            channel="sms",
            provider=PROVIDER,
            address_kind="phone",
            address_id=self._recorder.address_id(about.workspace, "phone", sender),
            text=text,
            at=iso(self._recorder.clock.now()),
            member_id=about.member_id or None,
            touch_id=about.touch_id or None,
            keyword=keyword(text),
        )
