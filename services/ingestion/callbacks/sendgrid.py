"""SendGrid's event webhook: what became of a mail, and what its reader did.

Our own arguments travel as custom_args (unique_args over SMTP) and come back flat in each event.
Event and field names as in SendGrid's "Event Webhook Reference".
"""

from typing import Any

import msgspec

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.problems import Problem
from rondo_common.records import Delivery, Engagement
from services.ingestion.callbacks.common import IGNORED, Attribution, Recorder, attribution, forbidden
from services.ingestion.callbacks.sendgrid_signature import Verifier

PROVIDER = "sendgrid"
MAX_BODY = 5 * 1024 * 1024
_LATEST = 253402300799  # 9999-12-31T23:59:59Z in seconds

_DELIVERIES = {"delivered", "bounce", "dropped", "deferred", "spamreport"}
_ENGAGEMENTS = {
    "open": "opened",
    "click": "clicked",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}


class SendgridEvents:
    """Turns signed event batches into Delivery and Engagement records."""

    def __init__(self, verifier: Verifier, recorder: Recorder):
        self._verifier = verifier
        self._recorder = recorder

    async def take(self, signature: str, timestamp: str, body: bytes, traceparent: str = "") -> int:
        """The number of records kept. Problem 403 for a bad signature, 400 for a body that is no list of
        events, 503 when Kafka does not take them."""
        if not self._verifier.valid(signature, timestamp, body, b"["):
            raise forbidden(PROVIDER)
        try:
            events = msgspec.json.decode(body, type=list[Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
            raise Problem(400, "malformed", "The request can't be read", f"Not a list of events: {e}") from None
        records = [r for e in events if (r := self.record(e)) is not None]
        await self._recorder.record(PROVIDER, records, traceparent)
        return len(records)

    def record(self, event: Any) -> Delivery | Engagement | None:
        """What one event says; None when it is about no message of ours or of a kind not kept."""
        if not isinstance(event, dict) or not isinstance(kind := event.get("event"), str):
            IGNORED.labels(PROVIDER, "unreadable").inc()
            return None
        if kind not in _DELIVERIES and kind not in _ENGAGEMENTS:
            IGNORED.labels(PROVIDER, "kind").inc()
            return None
        about = attribution(event, self._recorder.settings.workspace)
        if not about.known:
            IGNORED.labels(PROVIDER, "not_ours").inc()
            return None
        own = event.get("sg_event_id")
        if not isinstance(own, str) or not own:
            # older events have none: the same event is then known by what it says
            own = f"{event.get('sg_message_id')}:{kind}:{event.get('timestamp')}:{event.get('url')}"
        record_id = ids.derived(own, PROVIDER)
        at = self._at(event.get("timestamp"))
        if kind in _DELIVERIES:
            return self._delivery(kind, event, about, record_id, at)
        machine = kind == "open" and event.get("sg_machine_open") is True
        return Engagement(
            workspace=about.workspace,
            id=record_id,
            kind=_ENGAGEMENTS[kind],
            member_id=about.member_id,
            at=at,
            actor="machine" if machine else "human",
            touch_id=about.touch_id,
            campaign=about.campaign or None,
            run_id=about.run_id or None,
            channel="email",
            topic=_text(event.get("topic")) or ("*" if "unsubscribe" in kind else None),
            link=_text(event.get("url")) if kind == "click" else None,
        )

    def _delivery(self, kind: str, event: dict[str, Any], about: Attribution, id: str, at: str) -> Delivery:
        status, reason, permanent = _verdict(kind, event)
        address = event.get("email")
        return Delivery(
            workspace=about.workspace,
            id=id,
            touch_id=about.touch_id,
            member_id=about.member_id,
            channel="email",
            provider=PROVIDER,
            status=status,
            at=at,
            campaign=about.campaign,
            run_id=about.run_id,
            reason=reason,
            detail=_text(event.get("reason") or event.get("response")),
            provider_id=_text(event.get("sg_message_id")),
            address_id=self._recorder.address_id(about.workspace, "email", address)
            if isinstance(address, str) and address
            else None,
            permanent=permanent,
        )

    def _at(self, value: Any) -> str:
        if type(value) is int and 0 < value < _LATEST:
            return iso(value * 1000)
        return iso(self._recorder.clock.now())


def _verdict(kind: str, event: dict[str, Any]) -> tuple[str, str | None, bool]:
    """(status, reason, permanent). A `blocked` bounce is the receiving server's refusal of now, not of
    the address; `dropped` says why SendGrid did not even try."""
    if kind == "delivered":
        return "delivered", None, False
    if kind == "deferred":
        return "deferred", "soft_bounce", False
    if kind == "spamreport":
        return "complained", "complaint", True
    if kind == "bounce":
        return ("bounced", "blocked", False) if event.get("type") == "blocked" else ("bounced", "hard_bounce", True)
    why = str(event.get("reason") or "").lower()
    if "bounced" in why or "invalid" in why:
        return "bounced", "hard_bounce", True
    if "spam report" in why:
        return "bounced", "spam_report", False
    return ("bounced", "unsubscribed", False) if "unsubscribed" in why else ("bounced", "dropped", False)


def _text(value: Any) -> str | None:
    return value[:2000] if isinstance(value, str) and value else None
