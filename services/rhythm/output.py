"""The records a verdict becomes. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from rondo_common import ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit
from rondo_common.records import GateVerdict, Send, Touch
from services.rhythm.decide import DECIDE_VERSION, Verdict
from services.rhythm.gates import GATES, PASS

_iso = lru_cache(maxsize=256)(iso)  # a batch has one `now`
_canonical = msgspec.json.Encoder(order="sorted")
"""Sorted keys, no spaces: the same decision always has the same bytes."""
_PASSED = {id(f.shown): _canonical.encode(f.shown) for f in PASS.values()}
"""JSON of the gates that passed without looking at anything, which most do, by the object that says so."""

_AT = GATES.index("consent")
_HEAD, _TAIL = (tuple(PASS[g].shown for g in part) for part in (GATES[:_AT], GATES[_AT + 1 :]))
_HEAD_JSON = b"[%b," % b",".join([_PASSED[id(g)] for g in _HEAD])
_TAIL_JSON = b",%b]" % b",".join([_PASSED[id(g)] for g in _TAIL])


def decision_id(touch_id: str, attempt: int) -> str:
    return ids.derived(touch_id, str(attempt))


def records(touch: Touch, member_key: str, member_id: str, attempt: int, v: Verdict, now: int) -> list[Emit]:
    """The decision, and the send when the touch was let through. `member_id` is who it goes to: the
    winner, for a touch of a merged-away member."""
    id = decision_id(touch.touch_id, attempt)
    own = touch.data is not None or touch.event is not None or touch.content is not None
    if v.verdict != "send" or own:
        return _single(touch, member_key, member_id, id, attempt, v, now)
    m = _mould(
        now,
        v.send_by or now,
        attempt,
        v.channel,
        touch.workspace,
        touch.run_id,
        touch.campaign,
        touch.version,
        touch.step,
        touch.lane,
        touch.class_,
        touch.topic,
        touch.template,
        touch.template_version,
        touch.conversation_id,
    )
    a, b, c, d, e = m.decision
    which, who, touched = id.encode(), member_id.encode(), touch.touch_id.encode()
    decision = b"".join((a, which, b, _listed(v.gates), c, who, d, touched, e))
    a, b, c, d = m.send
    send = b"".join((a, touched, b, which, c, who, d))
    return [
        Emit(topics.DECISIONS, member_key, decision, "decision.made", id, member_id, tally="send", verdict="send"),
        Emit(topics.sends(v.channel, touch.lane), member_key, send, "send.requested", f"{id}.send", member_id),
    ]


def _listed(verdicts: Sequence[GateVerdict]) -> bytes:
    if verdicts[:_AT] == _HEAD and verdicts[_AT + 1 :] == _TAIL:  # only consent has something to say
        return b"".join((_HEAD_JSON, _canonical.encode(verdicts[_AT]), _TAIL_JSON))
    return b"[%b]" % b",".join([_PASSED.get(id(g)) or _canonical.encode(g) for g in verdicts])


def _single(touch: Touch, member_key: str, member_id: str, id: str, attempt: int, v: Verdict, now: int) -> list[Emit]:
    """The records of any verdict, encoded whole."""
    decision = _canonical.encode(_decision(touch, member_id, id, attempt, v.verdict, v, now))
    said = v.verdict if v.verdict == "send" else f"{v.verdict} {v.reason}"
    out = [Emit(topics.DECISIONS, member_key, decision, "decision.made", id, member_id, tally=said, verdict=v.verdict)]
    if v.verdict == "send":
        send = _send(touch, member_id, id, attempt, v.channel, now, v.send_by or now)
        out.append(
            Emit(topics.sends(v.channel, touch.lane), member_key, send, "send.requested", f"{id}.send", member_id)
        )
    return out


def _decision(
    touch: Touch, member_id: str, id: str, attempt: int, verdict: str, v: Verdict, now: int
) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "campaign": touch.campaign,
        "channel": v.channel,
        "class": touch.class_,
        "decide_version": DECIDE_VERSION,
        "decided_at": _iso(now),
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
        "verdict": verdict,
        "version": touch.version,
        "workspace": touch.workspace,
    }


def _send(touch: Touch, member_id: str, id: str, attempt: int, channel: str, now: int, send_by: int) -> Send:
    return Send(
        workspace=touch.workspace,
        touch_id=touch.touch_id,
        decision_id=id,
        attempt=attempt,
        run_id=touch.run_id,
        campaign=touch.campaign,
        version=touch.version,
        step=touch.step,
        member_id=member_id,
        channel=channel,
        lane=touch.lane,
        class_=touch.class_,
        topic=touch.topic,
        not_before=_iso(now),
        send_by=_iso(send_by),
        template=touch.template,
        template_version=touch.template_version,
        content=touch.content,
        data=touch.data,
        event=touch.event,
        conversation_id=touch.conversation_id,
    )


class _Mould(NamedTuple):
    """Both records of a touch that is let through, as JSON with gaps: decision id, gates, member, touch in
    the decision; touch, decision id, member in the send."""

    decision: tuple[bytes, ...]
    send: tuple[bytes, ...]


_GAPS = ("\0decision", "\0gates", "\0member", "\0touch")


@lru_cache(maxsize=1024)
def _mould(
    now: int,
    send_by: int,
    attempt: int,
    channel: str,
    workspace: str,
    run_id: str,
    campaign: str,
    version: int,
    step: str,
    lane: str,
    class_: str,
    topic: str,
    template: str | None,
    template_version: int | None,
    conversation_id: str | None,
) -> _Mould:
    """Made once for all touches of a run in a batch (encoding each was a third of the gate's time)."""
    id, gates, member, touch_id = _GAPS
    touch = Touch(
        workspace,
        touch_id,
        run_id,
        campaign,
        version,
        step,
        member,
        "",
        class_,
        topic,
        lane,
        [channel],
        "",
        template=template,
        template_version=template_version,
        conversation_id=conversation_id,
    )
    found = _decision(touch, member, id, attempt, "send", Verdict("send", channel, ()), now)
    send = _send(touch, member, id, attempt, channel, now, send_by)
    return _Mould(
        _cut(_canonical.encode({**found, "gates": gates}), (id, f'"{gates}"', member, touch_id)),
        _cut(msgspec.json.encode(send), (touch_id, id, member)),
    )


def _cut(raw: bytes, gaps: Sequence[str]) -> tuple[bytes, ...]:
    """`raw` in the pieces around the gaps, which come in this order."""
    pieces = []
    for gap in gaps:
        before, _, raw = raw.partition(gap.replace("\0", "\\u0000").encode())
        pieces.append(before)
    return (*pieces, raw)
