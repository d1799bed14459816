"""Plain words and plain numbers for people. Pure."""

from rondo_common.clock import from_iso, iso

CHANNELS = {"email": "e-mail", "sms": "SMS", "messaging": "chat", "social": "social"}
COUNTS = {
    "sent": "Sent",
    "queued": "Queued",
    "pending": "Pending",
    "deferred": "Held",
    "skipped": "Skipped",
    "failed": "Failed",
    "unknown": "Outcome unknown",
}
"""The seven counts of a run, in the order of the bar."""
REASONS = {
    "not_in_audience": "not in the audience",
    "merged": "merged into another member",
    "erased": "member erased",
    "suppressed_bounce": "address bounced before",
    "suppressed_complaint": "complained before",
    "suppressed_manual": "suppressed by hand",
    "consent_missing": "no consent",
    "consent_denied": "consent denied",
    "paused_by_member": "paused by the member",
    "merged_into_digest": "put into a digest",
    "campaign_paused": "campaign paused",
    "campaign_cancelled": "campaign cancelled",
    "expired": "too late",
    "holdout": "held out for comparison",
    "open_dialogue": "talking with us now",
    "no_address": "no address",
    "channel_unusable": "channel not usable",
    "quiet_hours": "quiet hours",
    "budget_exceeded": "budget used up",
    "min_gap": "too soon after the last one",
    "lost_conflict": "another campaign came first",
    "learned_hour": "waits for a better hour",
    "pacing": "paced",
    "template_abort": "template said no",
    "hard_bounce": "hard bounce",
    "timeout": "no answer in time",
    "connection_lost": "connection cut",
    "worker_lost": "worker died during the call",
    "effector_error": "error during the call",
    "provider_error": "error at the provider",
    "provider_rejected": "refused by the provider",
    "unreadable_answer": "answer not readable",
    "invalid_number": "number not valid",
    "not_a_mobile_number": "not a mobile number",
    "region_not_enabled": "region not enabled",
    "sender_refused": "sender refused",
    "suppressed_stop": "said STOP",
    "window_passed": "too late",
}
"""Reasons of WIRE 8 and of delivery; others are shown with their underscores as spaces."""
ENGAGEMENT = {
    "opened_human": "opened by people",
    "opened_machine": "opened by machines",
    "clicked_human": "clicked by people",
    "clicked_machine": "clicked by machines",
}
ABOUT = {
    "ingestion": "takes events and callbacks",
    "profiles": "identity, traits, consent",
    "segmentation": "who is in which segment",
    "campaigns": "definitions and runs",
    "rhythm": "decides each touch",
    "delivery-email": "sends e-mail",
    "delivery-sms": "sends SMS",
    "delivery-messaging": "sends chat messages",
    "delivery-social": "sends social messages",
    "links": "tracked links, unsubscribe",
    "gateway": "the REST API",
    "dashboard": "these pages",
    "insights": "the warehouse",
    "community": "conversations",
    "egress": "CRM events, webhooks",
    "capture": "the sandbox's mailbox",
}


def reason(code: str) -> str:
    """A reason in plain words."""
    return REASONS.get(code) or code.replace("_", " ")


def channel(name: str) -> str:
    return CHANNELS.get(name, name)


def number(value: float | None) -> str:
    """1234.5 -> "1,235"; small fractions keep a digit; None -> a dash."""
    if value is None:
        return "–"
    if value != int(value) and abs(value) < 10:
        return f"{value:.1f}"
    return f"{round(value):,}"


def span(seconds: float | None) -> str:
    """A duration as a person says it: "0 s", "14 s", "3 min", "2 h 5 min", "4 days"."""
    if seconds is None:
        return "–"
    s = round(seconds)
    if 0 < seconds < 1:
        return "under 1 s"
    if s < 120:
        return f"{max(0, s)} s"
    if s < 7_200:
        return f"{s // 60} min"
    if s < 172_800:
        rest = s % 3600 // 60
        return f"{s // 3600} h {rest} min" if rest else f"{s // 3600} h"
    return f"{s // 86_400} days"


def day_and_time(text: str | None) -> str:
    """An instant of the wire as "21 Nov 2026, 05:03:09 UTC"; what can't be read stays as it is."""
    try:
        whole = iso(from_iso(text or ""))
    except ValueError:
        return text or ""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    date, _, time = whole.partition("T")
    year, month, day = date.split("-")
    return f"{int(day)} {months[int(month) - 1]} {year}, {time[:8]} UTC"


def ago(text: str | None, now: int) -> str:
    """How long before `now` (ms) an instant of the wire was."""
    seconds = seconds_since(text, now)
    return "" if seconds is None else span(seconds)


def seconds_since(text: str | None, now: int) -> float | None:
    """Seconds from an instant of the wire to `now` (ms), 0 when it lies ahead; None when it can't be read."""
    try:
        return max(0.0, (now - from_iso(text or "")) / 1000)
    except ValueError:
        return None
