"""The records a verdict becomes. Pure."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit
from rondo_common.records import Send, Touch
from services.rhythm.decide import DECIDE_VERSION, Verdict

_iso = lru_cache(maxsize=256)(iso)  # a batch has one `now`
_canonical = msgspec.json.Encoder(order="sorted")
"""Sorted keys, no spaces: the same decision always has the same bytes."""


def decision_id(touch_id: str, attempt: int) -> str:
    return ids.derived(touch_id, str(attempt))


def records(touch: Touch, member_key: str, member_id: str, attempt: int, v: Verdict, now: int) -> Iterator[Emit]:
    """The decision, and the send when the touch was let through. `member_id` is who it goes to: the
    winner, for a touch of a merged-away member."""
    id = decision_id(touch.touch_id, attempt)
    at = _iso(now)
    decision: dict[str, Any] = {
        "attempt": attempt,
        "campaign": touch.campaign,
        "channel": v.channel,
        "class": touch.class_,
        "decide_version": DECIDE_VERSION,
        "decided_at": at,
        "decision_id": id,
        "gates": v.gates,
        "lane": touch.lane,
        "member_id": member_id,
        "reason": v.reason,
        "run_id": touch.run_id,
        "step": touch.step,
        "topic": touch.topic,
        "touch_id": touch.touch_id,
        "until": None if v.until is None else iso(v.until),
        "verdict": v.verdict,
        "version": touch.version,
        "workspace": touch.workspace,
    }
    said = v.verdict if v.verdict == "send" else f"{v.verdict} {v.reason}"
    body = _canonical.encode(decision)
    yield Emit(topics.DECISIONS, member_key, body, "decision.made", id, member_id, tally=said)
    if v.verdict == "send":
        send = Send(
            workspace=touch.workspace,
            touch_id=touch.touch_id,
            decision_id=id,
            attempt=attempt,
            run_id=touch.run_id,
            campaign=touch.campaign,
            version=touch.version,
            step=touch.step,
            member_id=member_id,
            channel=v.channel,
            lane=touch.lane,
            class_=touch.class_,
            topic=touch.topic,
            not_before=at,
            send_by=_iso(v.send_by or now),
            template=touch.template,
            template_version=touch.template_version,
            content=touch.content,
            data=touch.data,
            event=touch.event,
            conversation_id=touch.conversation_id,
        )
        yield Emit(topics.sends(v.channel, touch.lane), member_key, send, "send.requested", f"{id}.send", member_id)
