"""The gate's verdicts."""

from typing import Any

import msgspec


class GateVerdict(msgspec.Struct, omit_defaults=True):
    """One gate's verdict: pass, defer or skip, with what it looked at."""

    gate: str
    verdict: str
    reason: str | None = None
    until: str | None = None
    policy: str | None = None
    """<id>@<version> of the policy that decided."""
    inputs: dict[str, Any] | None = None


class Decision(msgspec.Struct, omit_defaults=True):
    """The gate's verdict on a touch, on rondo.decisions.v1, written canonically (sorted keys, no
    spaces; WIRE 8). `attempt` counts the decisions of one touch from 1. All gates are listed up to
    and including the first skip. `offsets`: input offsets of the partition it was made at."""

    workspace: str
    decision_id: str
    touch_id: str
    attempt: int
    campaign: str
    version: int
    run_id: str
    step: str
    member_id: str
    channel: str
    decided_at: str
    verdict: str
    gates: list[GateVerdict]
    reason: str | None = None
    until: str | None = None
    lane: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)
    topic: str | None = None
    decide_version: int = 1
    """Version of the decide function."""
