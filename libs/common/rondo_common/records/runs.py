"""Runs and their counts."""

import msgspec


class RunPart(msgspec.Struct, omit_defaults=True):
    """One partition's share of a run, on rondo.runs.v1 (compacted, key workspace:run:partition).
    A reader adds the parts. A touch is in exactly one of the seven `counts`: pending, deferred,
    queued, sent, skipped, failed, unknown."""

    workspace: str
    run_id: str
    campaign: str
    version: int
    status: str
    """waiting (for its time or its segment), running, paused, cancelled, expanded (all touches out)."""
    started_at: str
    audience: int = 0
    touches: int = 0
    counts: dict[str, int] = {}
    reasons: dict[str, dict[str, int]] = {}
    engagement: dict[str, int] = {}
    last_change: str | None = None
