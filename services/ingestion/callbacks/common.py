"""What all provider callbacks share: reading, refusing, attributing, writing."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from rondo_common import ids, telemetry
from rondo_common.clock import Clock, iso
from rondo_common.problems import Problem
from rondo_common.records import Delivery, Engagement, Inbound
from rondo_common.settings import Settings
from rondo_common.topics import DELIVERIES, ENGAGEMENT, INBOUND
from services.ingestion.callbacks.marks import StopMarks
from services.ingestion.model import Message
from services.ingestion.sink import Sink, headers_of

Record = Delivery | Engagement | Inbound

_encode = msgspec.json.Encoder().encode

MAX_TEXT = 10_000
"""Characters of an inbound message that are kept."""

RECORDS = telemetry.counter("rondo_callback_records_total", "Records made of provider callbacks", ("provider", "kind"))
REFUSED = telemetry.counter("rondo_callback_refused_total", "Callbacks with a bad signature", ("provider",))
IGNORED = telemetry.counter("rondo_callback_ignored_total", "Callback entries nothing was made of", ("provider", "why"))


@dataclass(frozen=True)
class Attribution:
    """Which message an entry is about: our own arguments, as they travelled with it."""

    workspace: str
    member_id: str = ""
    touch_id: str = ""
    run_id: str = ""
    campaign: str = ""

    @property
    def known(self) -> bool:
        """Whether it names a message of ours."""
        return bool(self.member_id and self.touch_id)


def attribution(args: dict[str, object], default_workspace: str) -> Attribution:
    """From the arguments `w`, `m`, `t`, `r`, `c` that delivery puts on every message (`touch_id` is
    the same as `t`)."""

    def text(*names: str) -> str:
        for name in names:
            value = args.get(name)
            if isinstance(value, str) and value:
                return value[:512]
        return ""

    return Attribution(
        text("w") or default_workspace, text("m"), text("t", "touch_id"), text("r", "run_id"), text("c", "campaign")
    )


def forbidden(provider: str) -> Problem:
    """403 without detail, counted."""
    REFUSED.labels(provider).inc()
    return Problem(403, "forbidden", "The signature is not valid")


class Recorder:
    """Writes what callbacks became."""

    def __init__(self, settings: Settings, sink: Sink, clock: Clock, marks: StopMarks):
        self.settings = settings
        self.clock = clock
        self._sink = sink
        self._marks = marks

    def secret(self, workspace: str) -> bytes:
        """The workspace's secret for ids."""
        return ids.workspace_secret(self.settings.secret, workspace)

    def address_id(self, workspace: str, kind: str, value: str) -> str:
        """Id of an address in its normal form. `kind` is email, phone or telegram_chat_id."""
        if kind == "email":
            value = ids.normal_email(value)
        elif kind == "phone":
            value = ids.normal_phone(value)
        return ids.identifier_id(self.secret(workspace), kind, value)

    async def record(self, provider: str, records: Sequence[Record], traceparent: str = "") -> None:
        """Returns once all are acknowledged and the marks of STOPs are set (or known to be out of
        reach). Problem 503 when Kafka does not take them."""
        if not records:
            return
        now = self.clock.now()
        at = iso(now)
        messages = [_message(r, at, traceparent) for r in records]
        for r in records:
            if isinstance(r, Inbound) and r.keyword in ("stop", "start"):
                await self._marks.follow(r)
        await self._sink.write(messages, now)
        for r in records:
            RECORDS.labels(provider, type(r).__name__.lower()).inc()


def _message(record: Record, at: str, traceparent: str) -> Message:
    if isinstance(record, Inbound):
        topic, kind, subject = INBOUND, "rondo.inbound.received", record.member_id or record.address_id
    elif isinstance(record, Delivery):
        topic, kind, subject = DELIVERIES, f"rondo.delivery.{record.status}", record.member_id
    else:
        topic, kind, subject = ENGAGEMENT, f"rondo.engagement.{record.kind}", record.member_id
    key = ids.member_key(record.workspace, subject).encode()
    return Message(topic, key, _encode(record), headers_of(kind, record.id, at, traceparent, subject))
